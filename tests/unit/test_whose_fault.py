"""Whose fault an error is: a record's, the schema's, or nobody's but the batch's size."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import pytest
import trio
from trio.testing import MockClock

from pipeline.errors import PipelineError
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.breaker import Breaker
from pipeline.postgres.connections.errors import RowError, Verdict, is_away, judge
from pipeline.records.record import Record
from pipeline.runtime.backoff import Backoff
from tests.support.records import record
from tests.support.stores import Answer, World, raising, server_error

SUSPECT = ["XX000", "42601", "42P01", "42501", "AB001", "20000", "P0002", "0A000", "55000"]


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


def records(count: int, start: int = 0) -> list[Record]:
    """Records of different keys."""
    return [record(offset, f"key {offset}") for offset in range(start, start + count)]


def failing(sqlstate: str, *offsets: int) -> Answer:
    """Refuse what has one of these records in it."""

    def answer(batch: Sequence[Record]) -> None:
        if not {record.offset for record in batch}.isdisjoint(offsets):
            raise server_error(sqlstate)

    return answer


# A suspect error.


@pytest.mark.parametrize("sqlstate", SUSPECT)
@pytest.mark.parametrize("guilty", [(0,), (57,), (99,), tuple(range(19)), tuple(range(0, 100, 2))])
async def test_records_that_fail_alone_while_others_go_through_are_at_fault(
    autojump_clock: MockClock, world: World, sqlstate: str, guilty: tuple[int, ...]
) -> None:
    partition = await world.open()
    world.database.always = failing(sqlstate, *guilty)
    await partition.apply(0, records(100))
    assert [offset for offset, _ in world.dead_letters.kept] == list(guilty)
    assert {reason.sqlstate for _, reason in world.dead_letters.kept} == {sqlstate}
    assert world.database.applied == [n for n in range(100) if n not in guilty]


async def test_a_statement_that_fails_over_no_rows_is_the_schemas(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.always = raising(server_error("42501"))
    world.database.probe_error = server_error("42501")
    with pytest.raises(PipelineError, match=r"offsets 0 … 99.*42501"):
        await partition.apply(0, records(100))
    assert world.database.calls.count("write") == 1, "nothing is halved"
    assert world.dead_letters.kept == []


async def test_if_no_record_goes_through_it_is_the_schemas(
    autojump_clock: MockClock, world: World
) -> None:
    """As of a trigger that is defective: the statement over no rows does not call it."""
    partition = await world.open()
    await partition.apply(0, records(1))
    world.database.always = raising(server_error("42P01"))
    with pytest.raises(PipelineError, match="42P01"):
        await partition.apply(0, records(5000, start=1))
    assert world.dead_letters.kept == [], "the topic is not emptied into the dead letters"
    assert world.database.calls.count("write") < 80, "not each record is tried"


async def test_of_lone_records_that_fail_few_in_a_row_are_taken_for_guilty(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.always = raising(server_error("42P01"))
    await partition.apply(0, records(1))
    await partition.apply(0, records(1, start=1))
    with pytest.raises(PipelineError, match="42P01"):
        await partition.apply(0, records(1, start=2))
    assert [offset for offset, _ in world.dead_letters.kept] == [0, 1]


async def test_a_stop_that_is_proven_over_no_rows_is_told_in_full(
    autojump_clock: MockClock, world: World
) -> None:
    """What the batch met may quote a value; what the empty statement met can't."""
    partition = await world.open()
    world.database.always = raising(server_error("42703", f"of {SECRET}"))
    world.database.probe_error = server_error("42703", 'column "n" does not exist')
    with pytest.raises(PipelineError, match='column "n" does not exist') as caught:
        await partition.apply(0, records(3))
    assert SECRET not in str(caught.value)


async def test_an_internal_error_that_passes_is_no_records_fault(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.answers = [raising(server_error("XX000"))] * 4
    await partition.apply(0, records(3))
    assert world.database.applied == [0, 1, 2]
    assert "probe" not in world.database.calls


async def test_later_records_of_a_suspects_key_wait_for_the_verdict(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    batch = [record(0, "a"), record(1, "b"), record(2, "a"), record(3, "c")]
    world.database.always = failing("42501", 0)
    await partition.apply(0, batch)
    assert world.database.applied == [1, 3, 2]
    assert world.database.marked == [0]


# Too large a batch, and a lock.


@pytest.mark.parametrize("sqlstate", ["57014", "53200", "53400", "25P04"])
async def test_a_batch_that_is_too_large_is_cut_until_it_can_be_done(
    autojump_clock: MockClock, world: World, sqlstate: str
) -> None:
    partition = await world.open()

    def refuse(batch: Sequence[Record]) -> None:
        if len(batch) > 40:
            raise server_error(sqlstate)

    world.database.always = refuse
    await partition.apply(0, records(1000))
    assert world.database.applied == list(range(1000)), "in order"
    assert world.dead_letters.kept == []


async def test_a_batch_that_costs_its_connection_each_time_is_cut(
    autojump_clock: MockClock, world: World
) -> None:
    """A fatal time-out, or a script that ends long transactions: no answer comes, and nothing is done."""
    partition = await world.open()

    def end(batch: Sequence[Record]) -> None:
        if len(batch) > 40:
            raise asyncpg.ConnectionDoesNotExistError("closed in the middle of operation")

    world.database.always = end
    await partition.apply(0, records(1000))
    assert world.database.applied == list(range(1000)), "in order"
    assert world.dead_letters.kept == []


@pytest.mark.parametrize("sqlstate", ["55P03", "40P01", "57014"])
async def test_a_lock_holds_up_its_own_rows(
    autojump_clock: MockClock, world: World, sqlstate: str
) -> None:
    partition = await world.open()
    locked = [True]

    def refuse(batch: Sequence[Record]) -> None:
        if locked[0]:
            failing(sqlstate, 7)(batch)

    world.database.always = refuse
    batch = [record(n, f"key {n % 100}") for n in range(200)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partition.apply, 0, batch)
        await trio.sleep(600)
        assert sorted(world.database.applied) == [n for n in range(200) if n not in (7, 107)]
        locked[0] = False
    assert world.database.applied[-2:] == [7, 107]
    assert world.dead_letters.kept == []


# Other states.


def test_a_cached_plan_that_is_old_is_made_again() -> None:
    error = asyncpg.InvalidCachedStatementError("cached plan must not change result type")
    assert judge(error) is Verdict.RETRY


async def test_a_server_that_became_read_only_is_left(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.answers = [raising(server_error("25006"))]
    await partition.apply(0, records(1))
    assert world.shard.dropped == 1
    assert world.database.applied == [0]


def test_recovery_in_progress_means_away() -> None:
    error = asyncpg.ObjectNotInPrerequisiteStateError("recovery is in progress")
    assert is_away(error)
    assert judge(error) is Verdict.RETRY


# One shard's own fault.


async def test_a_shard_stops_alone_while_others_work_and_heals_when_it_is_mended(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(nursery, others_work=lambda: True)
    partition = await world.open()
    await partition.apply(0, records(1))
    world.database.always = raising(server_error("42703"))
    world.database.probe_error = server_error("42703")
    async with trio.open_nursery() as applying:
        applying.start_soon(partition.apply, 0, records(10, start=1))
        await trio.sleep(300)
        assert "42703" in (world.shard.breaker.stopped or "")
        assert world.database.calls.count("write") < 80, "with waits that grow"
        assert len([r for r in caplog.records if "has stopped" in r.message]) == 1
        world.database.always = lambda _: None
        world.database.probe_error = None
    assert world.shard.breaker.stopped is None
    assert world.database.applied == list(range(11))
    assert world.dead_letters.kept == []


async def test_at_the_start_a_mistake_ends_the_program(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(nursery, others_work=lambda: True)
    partition = await world.open()
    world.database.always = raising(server_error("42703"))
    world.database.probe_error = server_error("42703")
    with pytest.raises(PipelineError, match="42703"):
        await partition.apply(0, records(10))


async def test_what_waits_for_the_dead_letter_topic_says_so(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    partition = await world.open()

    async def put(*_: object) -> None:
        await trio.sleep_forever()

    world.dead_letters.put = put  # type: ignore[method-assign,assignment]
    nursery.start_soon(partition.apply, 0, [record(0, "k", error="not JSON")])
    await trio.sleep(1)
    assert partition.waits_for == "the dead letter topic"
    assert not world.store.answers(record(0, "k").source), "a restart would not help"


# Privacy.

SECRET = "4711-personal"


@pytest.mark.parametrize(
    "error",
    [
        server_error("22P02", f'invalid input syntax for type integer: "{SECRET}"'),
        server_error("23514", "violates check constraint", detail=f"row contains ({SECRET})"),
        server_error("42601", f'syntax error in tsquery: "{SECRET}"'),
        server_error("P0001", f"no {SECRET} here", hint=SECRET),
        asyncpg.DataError(f"invalid input for query argument $1: '{SECRET}'"),
        RowError(f"column a: no {SECRET}", "column a: no text"),
    ],
)
@pytest.mark.parametrize("details", [False, True])
async def test_no_value_of_a_record_is_told_unless_it_is_wanted(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    details: bool,
) -> None:
    caplog.set_level("DEBUG")
    world = World(nursery, details=details)
    partition = await world.open()

    def refuse(batch: Sequence[Record]) -> None:
        if batch[0].offset <= 3 <= batch[-1].offset:
            raise error

    world.database.always = refuse
    await partition.apply(0, records(9))
    ((offset, reason),) = world.dead_letters.kept
    assert offset == 3
    assert (SECRET in reason.reason) is details
    if not details:
        assert SECRET not in caplog.text


async def test_a_stopped_shard_is_asked_each_second_however_long_ago_it_stopped(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    breaker = Breaker("db0", Metrics(), Backoff(initial=1, longest=1000))
    ruined = [True]

    async def probe() -> None:
        await trio.lowlevel.checkpoint()
        if ruined[0]:
            raise OSError("not mended")

    nursery.start_soon(breaker.watch, probe)
    breaker.stop("a column is missing")
    await trio.sleep(10_000)
    ruined[0] = False
    with trio.fail_after(1.5):
        await breaker.wait_closed()
