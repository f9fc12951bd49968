"""The store: every record of a batch is decided, whatever the database says."""

# ruff: noqa: ARG001 (the clock is asked for to be in force; fakes ignore much)

from __future__ import annotations

import math
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest
import trio
from trio.testing import MockClock

from pipeline.cli.common import messages
from pipeline.config.model import ShardConfig
from pipeline.contracts.snapshot import BreakerState
from pipeline.contracts.store import Claim, Fenced, ServerChanged
from pipeline.errors import PipelineError, UsageError
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Session
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.recovery import Recovery
from pipeline.postgres.store.store_router import StoreRouter
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition
from pipeline.runtime.backoff import Backoff
from tests.support.records import record
from tests.support.stores import CLAIM, World, raising, records, refusing, server_error


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


# Halving.


@pytest.mark.parametrize("guilty", [0, 1, 499, 500, 999])
async def test_one_guilty_record_is_found_in_few_writes(
    autojump_clock: MockClock, world: World, guilty: int
) -> None:
    partition = await world.open()
    world.database.always = refusing(guilty)
    await partition.apply(0, records(1000))
    assert world.database.applied == [n for n in range(1000) if n != guilty], "in order"
    assert world.database.calls.count("write") <= 2 * math.ceil(math.log2(1000)) + 1
    assert world.database.marked == [guilty]
    ((offset, rejection),) = world.dead_letters.kept
    assert (offset, rejection.sqlstate) == (guilty, "22003")
    assert rejection.error == "NumericValueOutOfRangeError"
    assert 10 <= rejection.attempts <= 11


async def test_several_guilty_records_each_stand_alone(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.always = refusing(3, 4, 17)
    await partition.apply(1, records(20))
    assert [offset for offset, _ in world.dead_letters.kept] == [3, 4, 17]
    assert world.database.applied == [n for n in range(20) if n not in (3, 4, 17)]
    assert world.database.marked == [3, 4, 17]
    assert world.shard.metrics.dead_letters.labels("sessions", "0")._value.get() == 3


async def test_a_misfit_is_kept_and_never_written(autojump_clock: MockClock, world: World) -> None:
    partition = await world.open()
    batch = [record(0, "k"), record(1, "k", error="not JSON"), record(2, "k")]
    await partition.apply(0, batch)
    assert world.database.applied == [0, 2]
    assert world.database.marked == [1]
    assert world.dead_letters.kept == [(1, DeadLetterReason("not JSON", "DecodeError"))]


async def test_a_record_is_kept_before_it_is_marked(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.mark_errors = [server_error("40001"), ConnectionResetError()]
    world.database.always = refusing(0)
    await partition.apply(0, records(1))
    assert world.database.calls == ["take_over", "write", "mark", "mark", "mark"]
    assert len(world.dead_letters.kept) == 1, "kept once, though it was marked three times"


async def test_a_reject_that_can_not_be_kept_is_not_marked(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()

    async def refuse(record: Record, rejection: DeadLetterReason) -> None:
        raise PipelineError("no topic")

    world.dead_letters.put = refuse  # type: ignore[method-assign]
    world.database.always = refusing(0)
    with pytest.raises(PipelineError, match="no topic"):
        await partition.apply(0, records(1))
    assert world.database.marked == []


# Retrying.


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "53300", "55P03", "57014", "57P03"])
async def test_what_fails_for_a_while_is_tried_until_it_succeeds(
    autojump_clock: MockClock, world: World, sqlstate: str
) -> None:
    partition = await world.open()
    world.database.answers = [raising(server_error(sqlstate))] * 40
    await partition.apply(0, records(3))
    assert world.database.applied == [0, 1, 2]
    assert "resolve" not in world.database.calls
    assert world.shard.metrics.retries.labels("db0", sqlstate)._value.get() == 40
    assert world.dead_letters.kept == []


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), server_error("57P01")])
@pytest.mark.parametrize("committed", [True, False])
async def test_a_write_in_doubt_is_settled_by_the_ledger_before_it_is_tried_again(
    autojump_clock: MockClock, world: World, error: Exception, committed: bool
) -> None:
    partition = await world.open()

    def lose_the_answer(batch: Sequence[Record]) -> None:
        if committed:
            world.database.committed |= {record.offset for record in batch}
        raise error

    world.database.answers = [lose_the_answer]
    await partition.apply(0, records(2))
    assert world.database.calls[1:] == ["write", "resolve"] + ["write"] * (not committed)
    assert world.database.applied == ([] if committed else [0, 1]), "never twice"
    assert world.shard.dropped == 1, "connections that seem idle are broken too"
    await partition.apply(0, records(1))  # under the epoch that resolving gave


async def test_a_half_in_doubt_is_settled_too(autojump_clock: MockClock, world: World) -> None:
    partition = await world.open()
    world.database.answers = [refusing(3), raising(ConnectionResetError())]
    world.database.always = refusing(3)
    await partition.apply(0, records(4))
    assert world.database.calls[1:4] == ["write", "write", "resolve"]
    assert world.database.applied == [0, 1, 2]
    assert world.database.marked == [3]


async def test_nobody_writes_while_the_breaker_is_open(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.shard.breaker.trip("gone")
    await partition.apply(0, records(1))
    assert world.shard.breaker.state is BreakerState.CLOSED
    assert world.database.applied == [0]


# Stopping.


@pytest.mark.parametrize("sqlstate", ["42P01", "42501", "0A000"])
async def test_what_retrying_can_not_help_stops_and_names_shard_and_sqlstate(
    autojump_clock: MockClock, world: World, sqlstate: str
) -> None:
    partition = await world.open()
    world.database.always = raising(server_error(sqlstate))
    world.database.probe_error = server_error(sqlstate)
    with pytest.raises(PipelineError) as caught:
        await partition.apply(0, records(2))
    message = str(caught.value)
    for part in ("db0", sqlstate, "sessions-0", "offsets 0 … 1"):
        assert part in message
    assert world.dead_letters.kept == []
    assert world.database.calls.count("write") == 1


async def test_fenced_passes_and_nothing_is_retried(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.epoch += 1  # another instance has taken over
    with pytest.raises(Fenced):
        await partition.apply(0, records(2))
    assert world.database.calls == ["take_over", "write"]


# Taking over, and checkpoints.


async def test_taking_over_waits_for_a_shard_that_is_away(
    autojump_clock: MockClock, world: World
) -> None:
    world.database.take_over_errors = [ConnectionRefusedError(), server_error("57P03")]
    partition = await world.open()
    assert world.database.calls == ["take_over"] * 3
    assert (partition.writers, partition.applied.watermark, partition.batch_limit) == (2, 5, 100)


async def test_taking_over_stops_where_waiting_can_not_help(
    autojump_clock: MockClock, world: World
) -> None:
    world.database.take_over_errors = [server_error("42501")]
    with pytest.raises(PipelineError, match=r"db0, taking over sessions-0: .*42501"):
        await world.open()


async def test_a_password_that_is_refused_later_on_is_waited_for(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was changed, and comes here a little later. No other shard need work meanwhile."""
    world = World(nursery)
    partition = await world.open()
    world.database.answers = [raising(server_error("28P01")), raising(server_error("28000"))]
    with pytest.raises(
        UsageError, match=r"^shards\[db0\]\.dsn: local socket can't be used: .*28P01"
    ):
        await partition.apply(0, records(1))
    monkeypatch.setattr(type(world.shard), "entered", True)
    await partition.apply(0, records(1))
    assert world.database.applied == [0]
    assert world.shard.breaker.stopped is None


async def test_a_fold_that_fails_is_left_to_the_next_and_ends_nothing(
    autojump_clock: MockClock, world: World
) -> None:
    await world.open()
    world.database.fold_error = ConnectionResetError()
    await world.store.fold([(CLAIM, 7)])
    world.database.fold_error = None
    await world.store.fold([(CLAIM, 8)])
    assert world.database.folded == [(CLAIM, 8)]
    world.database.fold_error = server_error("42501")
    await world.store.fold([(CLAIM, 9)])
    assert world.database.folded == [(CLAIM, 8)]


async def test_a_void_lease_says_whether_the_server_or_a_rival_made_it_so(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.epoch += 1
    with pytest.raises(Fenced) as raised:
        await partition.apply(0, records(1))
    assert type(raised.value) is Fenced
    world.database.another_server = True
    with pytest.raises(ServerChanged):
        await partition.apply(0, records(1))
    assert await world.store.voided([CLAIM]) == [CLAIM]


async def test_each_shard_gets_its_own_partitions(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    worlds = {name: World(nursery) for name in ("even", "odd")}
    store = StoreRouter(
        {name: world.store for name, world in worlds.items()}, lambda n: ("even", "odd")[n % 2]
    )
    claims = [Claim("g", TopicPartition("t", n), UUID(int=1)) for n in range(4)]
    for claim in claims:
        await store.open(claim)
    await store.fold([(claim, 9) for claim in claims])
    for place, world in enumerate(worlds.values()):
        assert [claim.source.partition for claim, _ in world.database.folded] == [place, place + 2]


def test_asyncpg_names_what_is_tested_here() -> None:
    assert isinstance(server_error("22003"), asyncpg.NumericValueOutOfRangeError)


async def test_partitions_that_meet_one_refusal_at_once_are_told_of_once() -> None:
    """Each shard is named all the same, and the cause of each."""

    def stopped(shard: str, doing: str, what: str) -> PipelineError:
        config = ShardConfig(name=shard, dsn="", connections=1)
        sizer = BatchSizers(1, bounded=False)
        recovery = Recovery(Shard(config, Session("test"), Metrics()), sizer, Backoff())
        return recovery.stop(asyncpg.InsufficientPrivilegeError(what), doing)

    group = ExceptionGroup(
        "all",
        [
            stopped("db0", "applying sessions-2 offset 0", "permission denied for table a"),
            ExceptionGroup(
                "inner", [stopped("db0", "applying sessions-3", "permission denied for table a")]
            ),
            stopped("db1", "applying sessions-4", "permission denied for table a"),
            stopped("db1", "applying sessions-5", "permission denied for table b"),
        ],
    )
    told = list(messages(group))
    assert len(told) == 3
    assert told[0].startswith("shard db0, applying sessions-2 offset 0: permission denied")
    assert all(text.startswith("shard db1") for text in told[1:])
