"""What a handler's own code raises: told apart from Postgres's errors, and decided record by record."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby

import pytest
import trio
from trio.testing import MockClock

from pipeline.contracts.snapshot import BreakerState
from pipeline.errors import PipelineError
from pipeline.postgres.connections.bridge import open_bridge
from pipeline.postgres.connections.errors import (
    HandlerFailed,
    HandlerReject,
    HandlerRetry,
    Verdict,
    judge,
)
from pipeline.postgres.connections.explanations import explain, explain_without_values
from pipeline.postgres.store.store_router import StoreRouter
from pipeline.records.record import Record
from tests.support.records import SOURCE, record
from tests.support.stores import World, server_error

RETRY, REJECT, STOP = Verdict.RETRY, Verdict.REJECT, Verdict.STOP


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


def raised(error: Exception) -> HandlerFailed:
    return HandlerFailed([record(7, "k")], error)


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("of a nursery", errors)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectionRefusedError(), RETRY),
        (ConnectionResetError(), RETRY),
        (BrokenPipeError(), RETRY),
        (TimeoutError(), RETRY),
        (OSError(113, "no route to host"), RETRY),
        (trio.TooSlowError(), RETRY),
        (HandlerRetry("the tariffs are locked"), RETRY),
        (HandlerReject("not for us"), REJECT),
        (FileNotFoundError(2, "no such file"), STOP),
        (PermissionError(13, "permission denied"), STOP),
        (KeyError("id"), STOP),
        (server_error("23505"), STOP),
        (server_error("40001"), STOP),
        (group(TimeoutError(), ConnectionResetError()), RETRY),
        (group(TimeoutError(), group(HandlerReject("no"))), REJECT),
        (group(HandlerReject("no"), KeyError("id"), TimeoutError()), STOP),
    ],
    ids=repr,
)
def test_verdict(error: Exception, verdict: Verdict) -> None:
    """Whatever it is, it says nothing of the shard: a handler may use other databases too."""
    assert judge(raised(error)) is verdict


def test_it_is_told_in_one_line() -> None:
    assert explain(raised(KeyError("id"))) == "the handler raised KeyError: 'id'"
    failed = raised(group(TimeoutError("late"), ValueError("one\ntwo")))
    assert explain(failed) == "the handler raised ValueError: one two"


async def test_what_belongs_to_asyncio_is_told_without_details() -> None:
    """A library for asyncio waits for what its own loop knows, and Trio does not."""
    async with open_bridge():
        with pytest.raises(TypeError) as caught:
            await asyncio.sleep(0.01)
    told = explain_without_values(raised(caught.value))
    assert told.startswith("the handler raised TypeError")
    assert told.endswith(": it awaited what is not Trio's, as of a library for asyncio")


class Calls:
    """A database whose transactions call a handler once for each key's run, as the real one does.

    ``fails`` says what a call raises, by its records.
    """

    def __init__(self, world: World, fails: Callable[[Sequence[Record]], Exception | None]) -> None:
        self.fails = fails
        self.calls: Counter[int] = Counter()
        world.database.always = self

    def __call__(self, records: Sequence[Record]) -> None:
        for _, run in groupby(records, key=lambda record: record.ordering):
            called = list(run)
            self.calls.update(record.offset for record in called)
            error = self.fails(called)
            if error is not None:
                raise HandlerFailed(called, error)


class Outage:
    """Calls that have these offsets fail, each a number of times."""

    def __init__(self, error: Exception, times: dict[int, int]) -> None:
        self.error = error
        self.times = times

    def __call__(self, records: Sequence[Record]) -> Exception | None:
        for each in records:
            if self.times.get(each.offset):
                self.times[each.offset] -= 1
                return self.error
        return None


def batch(*keys: object) -> list[Record]:
    return [record(offset, key) for offset, key in enumerate(keys)]


async def test_a_call_that_fails_waits_until_the_others_are_applied(
    autojump_clock: MockClock, world: World
) -> None:
    calls = Calls(world, Outage(ConnectionRefusedError(), {2: 4}))
    partition = await world.open()
    await partition.apply(0, batch("a", "b", "c", "c", "d", "e"))
    assert world.database.applied == [0, 1, 4, 5, 2, 3]
    assert calls.calls[2] == 5
    assert calls.calls[4] == 1, "those after it are not called again"
    assert world.dead_letters.kept == []


async def test_it_says_nothing_of_the_shard(autojump_clock: MockClock, world: World) -> None:
    """No breaker, no asking of the ledger, no connection closed; other partitions go on."""
    Calls(world, Outage(ConnectionResetError(), {0: 3}))
    partition = await world.open()
    states = set()

    async def watch() -> None:
        while True:
            states.add(world.shard.breaker.state)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await partition.apply(0, batch("a"))
        nursery.cancel_scope.cancel()
    assert states == {BreakerState.CLOSED}
    assert world.database.calls == ["take_over"] + ["write"] * 4
    assert world.shard.dropped == 0
    retries = world.shard.metrics.retries
    assert retries.labels("db0", "handler: ConnectionResetError")._value.get() == 3


async def test_when_every_call_fails_nothing_is_lost_or_twice(
    autojump_clock: MockClock, world: World
) -> None:
    Calls(world, Outage(TimeoutError(), dict.fromkeys(range(8), 3)))
    partition = await world.open()
    await partition.apply(0, batch(*"abacbdce"))
    assert sorted(world.database.applied) == list(range(8))


async def test_what_fails_is_not_tried_in_a_hurry(autojump_clock: MockClock, world: World) -> None:
    """The waits grow: a service that is away for ten minutes is not asked a thousand times."""
    began = trio.current_time()
    calls = Calls(
        world, lambda _: ConnectionRefusedError() if trio.current_time() < began + 600 else None
    )
    partition = await world.open()
    await partition.apply(0, batch(*range(100)))
    assert sorted(world.database.applied) == list(range(100))
    assert 30 < calls.calls.total() - 100 < 200


async def test_records_that_share_a_key_with_what_failed_wait_for_it(
    autojump_clock: MockClock, world: World
) -> None:
    """Several keys: what waits for one that waits must wait too."""
    keys = [
        (("user", 1), ("device", 1)),
        (("user", 2), ("device", 1)),
        (("user", 2), ("device", 3)),
        (("user", 4), ("device", 4)),
        (("user", 5), ("device", 3)),
    ]
    Calls(world, Outage(TimeoutError(), {1: 2, 0: 1}))
    partition = await world.open()
    await partition.apply(0, batch(*keys))
    assert world.database.applied == [3, 0, 1, 2, 4]


async def test_records_that_wait_keep_their_order_whichever_failed_first(
    autojump_clock: MockClock, world: World
) -> None:
    """The second call fails, then the first, which it must not overtake."""
    keys = [(("user", 1), ("device", 1)), (("user", 1), ("device", 2))]
    answers = iter([1, 0])

    def fails(called: Sequence[Record]) -> Exception | None:
        if called[0].offset == turn[0]:
            turn[0] = next(answers, -1)
            return TimeoutError()
        return None

    turn = [next(answers)]
    Calls(world, fails)
    partition = await world.open()
    await partition.apply(0, batch(*keys))
    assert world.database.applied == [0, 1]


async def test_a_rejected_record_is_found_without_halving(
    autojump_clock: MockClock, world: World
) -> None:
    calls = Calls(
        world, lambda called: HandlerReject("no") if any(r.offset == 700 for r in called) else None
    )
    partition = await world.open()
    await partition.apply(0, batch(*range(1000)))
    assert world.database.applied == [n for n in range(1000) if n != 700]
    assert world.database.calls.count("write") == 4, "all, those before it, it, those after it"
    assert calls.calls[999] == 1
    ((offset, rejection),) = world.dead_letters.kept
    assert (offset, rejection.error, rejection.reason) == (
        700,
        "HandlerReject",
        "HandlerReject: no",
    )


async def test_of_a_run_that_is_rejected_the_guilty_record_is_found(
    autojump_clock: MockClock, world: World
) -> None:
    Calls(world, lambda called: HandlerReject("no") if any(r.offset == 3 for r in called) else None)
    partition = await world.open()
    await partition.apply(0, batch("a", "k", "k", "k", "k", "b"))
    assert world.database.applied == [0, 1, 2, 4, 5], "a key's records in order"
    assert [offset for offset, _ in world.dead_letters.kept] == [3]


async def test_many_rejects_in_one_batch(autojump_clock: MockClock, world: World) -> None:
    Calls(world, lambda called: HandlerReject("no") if called[0].offset % 2 else None)
    partition = await world.open()
    await partition.apply(0, batch(*range(3000)))
    assert world.database.applied == list(range(0, 3000, 2))
    assert len(world.dead_letters.kept) == 1500


async def test_a_mistake_stops_and_names_the_record(
    autojump_clock: MockClock, world: World
) -> None:
    Calls(world, lambda called: KeyError("tariff") if called[0].offset == 5 else None)
    partition = await world.open()
    with pytest.raises(PipelineError) as caught:
        await partition.apply(0, batch(*range(9)))
    assert str(caught.value) == (
        "shard db0, applying sessions-0 offset 5: the handler raised KeyError; "
        "[errors] details = true shows what it says, which may hold values"
    )
    assert world.database.applied == []


async def test_a_refused_row_among_calls_that_fail(autojump_clock: MockClock, world: World) -> None:
    """Both at once: the row is found by halving, the call is made again, all others apply."""
    outage = Outage(TimeoutError(), {2: 3})
    calls = Calls(world, outage)

    def answer(records: Sequence[Record]) -> None:
        calls(records)
        if any(record.offset == 6 for record in records):
            raise server_error("22003")

    world.database.always = answer
    partition = await world.open()
    await partition.apply(0, batch(*range(9)))
    assert sorted(world.database.applied) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert world.database.applied[-1] == 2
    assert [offset for offset, _ in world.dead_letters.kept] == [6]


async def test_a_partition_that_waits_for_its_handler_does_not_count_as_stuck(
    autojump_clock: MockClock, world: World
) -> None:
    sharded = StoreRouter({"db0": world.store}, lambda _: "db0")
    Calls(world, Outage(TimeoutError(), {0: 8}))
    partition = await world.open()
    answers = []

    async def watch() -> None:
        while True:
            await trio.sleep(1)
            answers.append(sharded.answers(SOURCE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await partition.apply(0, batch("a"))
        assert sharded.answers(SOURCE)
        nursery.cancel_scope.cancel()
    assert answers
    assert not any(answers)


async def test_a_call_that_fails_for_ever_keeps_no_letter_of_its_batch_from_its_topic(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    Calls(world, Outage(ConnectionRefusedError(), {1: 10**6}))
    partition = await world.open()
    unreadable = record(0, "a", error="not JSON")
    nursery.start_soon(partition.apply, 0, [unreadable, *batch("x", "b", "c")[1:]])
    await trio.sleep(60)
    assert world.database.applied == [2]
    assert world.database.marked == [0]
