"""The contract of what stands below the store: kept by the simulated database and by the real one.

What the simulation proves holds of Postgres only as far as both keep the same contract.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest
import trio
import trio_asyncio

from pipeline.config.load import load
from pipeline.contracts.store import AppliedOffsets, Claim, Fenced
from pipeline.local.postgres import psql
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Connection, Session
from pipeline.postgres.connections.errors import Verdict, judge
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.ledger.ownership import take_over
from pipeline.postgres.store.database import Transactions
from pipeline.records.record import Record, TopicPartition
from tests.simulation.postgres import Request, SimulatedDatabase, SimulatedServer
from tests.simulation.world import Gate, World
from tests.support.counters import (
    CLAIM,
    SHAPE,
    SLOW,
    SLOW_SECONDS,
    TABLE,
    counting,
    make_counters,
    open_counters,
)
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

PATIENCE = 20.0


@attrs.frozen
class Subject:
    """A database that keeps the contract, and what a test must see and do beside it."""

    transactions: Transactions
    rows: Callable[[], dict[str, int]]
    """The table: id → n."""
    writing: Callable[[], bool]
    """Whether a write of the row `SLOW` is running."""


class SlowServer(SimulatedServer):
    """A simulated server, some of whose writes can be seen at work."""

    def plan(self, name: str, rows: Any, exclusive: bool, commit: Any) -> Request:
        request = super().plan(name, rows, exclusive, commit)
        if name.startswith("write") and commit.args[1][0].ordering == SLOW:
            request.work = SLOW_SECONDS
        return request


@asynccontextmanager
async def simulated() -> AsyncIterator[Subject]:
    async with trio.open_nursery() as nursery:
        server = SlowServer("db0", World(0, random.Random(0)), nursery)
        yield Subject(
            SimulatedDatabase(server, Gate()),
            lambda: dict(server.counters),
            lambda: server.locks.held > 0,
        )


@asynccontextmanager
async def real(dsn: str, directory: Path) -> AsyncIterator[Subject]:
    asleep = "select count(*) > 0 from pg_stat_activity where wait_event = 'PgSleep'"
    async with open_counters(dsn, directory) as counters:
        yield Subject(
            counters.transactions, counters.rows, lambda: psql(dsn, asleep).strip() == "t"
        )


Open = Callable[[], AbstractAsyncContextManager[Subject]]


@pytest.fixture(params=["simulated", "real", "pooled"])
def open_subject(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "simulated":
        return simulated
    dsn = make_counters(request, pooled=2 if request.param == "pooled" else None)
    return partial(real, dsn, tmp_path)


def records(*offsets: int, key: str = "a") -> list[Record]:
    return [counting(offset, key, 1) for offset in offsets]


async def test_a_database_says_what_it_reads_of_a_value(open_subject: Open) -> None:
    async with open_subject() as subject:
        assert subject.transactions.shape == SHAPE


async def own(database: Transactions, writers: int = 2, claim: Claim = CLAIM) -> list[Lease]:
    epochs = (await database.take_over(claim, writers)).epochs
    return [Lease(claim, writer, epoch) for writer, epoch in enumerate(epochs)]


async def applied(database: Transactions, claim: Claim = CLAIM) -> AppliedOffsets:
    return (await database.take_over(claim, 1)).applied


async def test_the_first_owner_finds_nothing(open_subject: Open) -> None:
    async with open_subject() as subject:
        taken = await subject.transactions.take_over(CLAIM, 3)
        epochs, known = taken.epochs, taken.applied
        assert len(epochs) == 3
        assert known == AppliedOffsets()
        assert not known.owned_before
        assert (await subject.transactions.take_over(CLAIM, 3)).applied.owned_before


async def test_taking_over_raises_every_epoch_also_of_writers_no_longer_needed(
    open_subject: Open,
) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        old = await own(database, 3)
        assert len(await own(database, 1)) == 1
        for lease in old:
            with pytest.raises(Fenced):
                await database.write(lease, records(lease.writer))
        new = await own(database, 5)
        assert all(now.epoch > before.epoch for now, before in zip(new, old, strict=False))
        await database.write(new[4], records(7))
        assert subject.rows() == {"a": 1}


async def test_a_write_and_its_offsets_are_one(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        first, second = await own(database)
        await database.write(first, records(0, 1, 3))
        await database.write(second, records(2, key="b") + records(6, key="c"))
        assert subject.rows() == {"a": 3, "b": 1, "c": 1}
        known = await applied(database)
        assert (known.watermark, known.above) == (4, ((6, 7),))


async def test_a_fenced_write_changes_nothing(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (old,), (_new,) = await own(database, 1), await own(database, 1)
        with pytest.raises(Fenced):
            await database.write(old, records(0))
        with pytest.raises(Fenced):
            await database.mark(old, records(0))
        assert subject.rows() == {}
        assert (await applied(database)).watermark is None


async def test_a_refused_row_changes_nothing(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        bad = counting(1, "b", "many")
        with pytest.raises(Exception) as caught:  # noqa: PT011 (judged in the next line)
            await database.write(lease, [*records(0), bad])
        assert judge(caught.value) is Verdict.REJECT
        assert subject.rows() == {}
        await database.write(lease, records(0))
        await database.mark(lease, [bad])
        assert subject.rows() == {"a": 1}
        assert (await applied(database)).watermark == 2


async def test_what_was_committed_is_resolved_as_such_and_its_writer_goes_on(
    open_subject: Open,
) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        lease, other = await own(database)
        await database.write(lease, records(0, 1))
        epoch, committed = await database.resolve(lease, records(0, 1))
        assert committed
        await database.write(Lease(CLAIM, 0, epoch), records(2))
        await database.write(other, records(3))  # only the one writer's epoch was raised
        assert subject.rows() == {"a": 4}


async def test_what_was_not_committed_can_not_land_once_it_is_resolved(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        await database.write(lease, records(0))
        epoch, committed = await database.resolve(lease, records(0, 1))
        assert not committed
        with pytest.raises(Fenced):
            await database.write(lease, records(1))
        await database.write(Lease(CLAIM, 0, epoch), records(1))
        assert subject.rows() == {"a": 2}


async def test_only_the_owner_resolves(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (old,), (new,) = await own(database, 1), await own(database, 1)
        with pytest.raises(Fenced):
            await database.resolve(old, records(0))
        await database.write(new, records(0))


async def test_folding_keeps_what_is_applied(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        await database.fold([(lease, 0)])
        assert await applied(database) == AppliedOffsets()
        (lease,) = await own(database, 1)
        for offsets in ((40,), (41, 42), (45,)):
            await database.write(lease, records(*offsets))
        await database.fold([(lease, 43)])
        await database.fold([(lease, 41)])  # a late one, of an owner that was slow
        assert await applied(database) == AppliedOffsets(43, ((45, 46),), 43)
        lease, _ = await own(database)
        assert (await database.resolve(lease, records(41, 42)))[1]
        assert not (await database.resolve((await own(database))[0], records(43)))[1]


async def test_what_was_applied_after_the_commit_does_not_look_set_back(
    open_subject: Open,
) -> None:
    """Folding joins the watermark's range with what was applied since; the watermark stays known."""
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        for offsets in (range(10), range(10, 15), range(20, 22)):
            await database.write(lease, records(*offsets))
        await database.fold([(lease, 10)])
        await database.fold([(lease, 0)])
        assert await applied(database) == AppliedOffsets(15, ((20, 22),), 10)


async def test_claims_have_nothing_in_common(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        others = [
            attrs.evolve(CLAIM, group="other"),
            attrs.evolve(CLAIM, source=TopicPartition("sessions", 1)),
            attrs.evolve(CLAIM, topic_id=UUID(int=2)),
        ]
        leases = [(await own(database, 1, claim))[0] for claim in others]
        await database.write(lease, records(0))
        await database.fold([(leases[0], 5), (leases[1], 6)])
        known = [(await applied(database, claim)).watermark for claim in (CLAIM, *others)]
        assert known == [1, 5, 6, None]


async def test_taking_over_waits_for_a_write_that_runs(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, lease, records(0, key=SLOW))
            await reached(subject.writing)
            known = await applied(database)
        assert known.watermark == 1
        assert subject.rows() == {SLOW: 1}


async def test_resolving_waits_for_the_write_that_runs(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, lease, records(0, key=SLOW))
            await reached(subject.writing)
            assert (await database.resolve(lease, records(0)))[1]


async def test_a_cancelled_write_is_applied_as_a_whole_or_not_at_all(open_subject: Open) -> None:
    async with open_subject() as subject:
        database = subject.transactions
        (lease,) = await own(database, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, lease, records(0, key=SLOW))
            await reached(subject.writing)
            nursery.cancel_scope.cancel()
        known = await applied(database)
        assert subject.rows() == ({SLOW: 1} if known.watermark == 1 else {})


async def reached(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 (another process's state)
            await trio.sleep(0.02)


async def test_two_who_take_over_for_the_first_time_at_once_get_different_epochs(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    """The second comes while the first has not committed, and finds no row to raise."""
    dsn = database()
    psql(dsn, TABLE)
    waiting = "select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock'"
    epochs: list[Sequence[int]] = []
    async with real(dsn, tmp_path) as subject:
        config = load(tmp_path / "pipeline.toml")
        shard = Shard(config.shards[0], Session.of(config, config.shards[0]), Metrics())
        taken, go_on = trio.Event(), trio.Event()

        async def first(connection: Connection) -> None:
            async with connection.transaction():
                found = (await take_over(connection, CLAIM, "first", 2)).epochs
                epochs.append(found)
                taken.set()
                await trio_asyncio.trio_as_aio(go_on.wait)()

        async def second() -> None:
            epochs.append((await subject.transactions.take_over(CLAIM, 2)).epochs)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shard.run, first)
            await taken.wait()
            nursery.start_soon(second)
            await reached(lambda: psql(dsn, waiting).strip() == "t")
            go_on.set()
        with trio.CancelScope() as scope:
            scope.cancel()
            await shard.serve()
    first_epochs, second_epochs = epochs
    assert second_epochs == [epoch + 1 for epoch in first_epochs]


async def test_a_server_that_lost_commits_gives_no_epoch_that_its_predecessor_gave(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    """What was sent to that one, and is delivered late by a pooler, would pass the fence."""
    dsn = database()
    psql(dsn, TABLE)
    async with real(dsn, tmp_path) as subject:
        (early,) = await own(subject.transactions, 1)
        (late,) = await own(subject.transactions, 1)
        back = f"epoch = {early.epoch - 1}, server = 'its predecessor'"
        psql(dsn, f"update pipeline.ownership set {back}")
        (now,) = await own(subject.transactions, 1)
        assert now.epoch > late.epoch
        for old in (early, late):
            with pytest.raises(Fenced):
                await subject.transactions.write(old, records(0))
