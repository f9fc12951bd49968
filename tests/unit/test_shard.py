"""What a shard's connections are given to, and what is measured of it."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from pipeline.config.model import ShardConfig
from pipeline.contracts.store import Claim
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Connection, Session
from pipeline.postgres.connections.limiter import STANDING_SECONDS, Limiter, Sample
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.shard_store import ShardStore
from pipeline.records.record import TopicPartition
from tests.support.stores import CLAIM, FakeDatabase, FakeDeadLetters


class LocalShard(Shard):
    """A shard whose work needs no connection."""

    async def run(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        no_connection: Any = None
        return await work(no_connection)


@attrs.define
class Crowd:
    """Work that stays until it may go, counted."""

    inside: int = 0
    may_go: trio.Event = attrs.field(factory=trio.Event)

    async def enter(self, _: object = None) -> None:
        self.inside += 1
        await self.may_go.wait()
        self.inside -= 1


class SlowDatabase(FakeDatabase):
    """Whose take-overs wait for a former owner."""

    def __init__(self) -> None:
        super().__init__()
        self.taking_over = Crowd()

    async def take_over(self, claim: Claim, writers: int, under: Lease | None = None) -> TakenOver:
        await self.taking_over.enter()
        return await super().take_over(claim, writers, under)


@pytest.mark.parametrize(
    ("connections", "at_once", "left"), [(8, 4, 4), (4, 2, 2), (3, 1, 2), (1, 1, 0)]
)
async def test_take_overs_have_half_of_the_connections_and_batches_the_rest(
    connections: int, at_once: int, left: int
) -> None:
    """256 partitions given to an instance at once wanted 256 connections."""
    database, batches = SlowDatabase(), Crowd()
    shard = LocalShard(ShardConfig("db0", "", connections=connections), Session("t"), Metrics())

    async def connect() -> SlowDatabase:
        return database

    store = ShardStore(shard, connect, FakeDeadLetters(), BatchSizers(100, bounded=False))
    claims = [attrs.evolve(CLAIM, source=TopicPartition("t", number)) for number in range(20)]
    async with trio.open_nursery() as nursery:
        for claim in claims:
            nursery.start_soon(store.open, claim)
        await trio.testing.wait_all_tasks_blocked()
        assert database.taking_over.inside == at_once
        for _ in range(20):
            nursery.start_soon(shard.transact, batches.enter, Sample(1))
        await trio.testing.wait_all_tasks_blocked()
        assert batches.inside == left
        database.taking_over.may_go.set()
        batches.may_go.set()
    assert database.calls.count("take_over") == len(claims)


async def measured(sample: Sample, seconds: float, clock: list[float]) -> list[tuple[object, ...]]:
    """What the limit is told of a transaction of so many seconds, all of it with Postgres."""
    shard = LocalShard(
        ShardConfig("db0", "", connections=3), Session("t"), Metrics(), adaptive=True
    )
    told: list[tuple[object, ...]] = []
    adaptive = shard.limiter._adaptive
    assert adaptive is not None
    adaptive.observe = lambda *observed: told.append(observed)  # type: ignore[method-assign]

    async def work(_: Connection) -> None:
        clock[0] += seconds

    async with shard.limiter.slot():
        clock[0] += 100.0  # whatever a batch waits for before its transaction
        await shard.transact(work, sample)
    return told


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


async def test_the_limit_is_told_what_the_statements_took_and_no_wait(clock: list[float]) -> None:
    assert await measured(Sample(7), 2.0, clock) == [(7, 1, 2.0, 102.0)]


async def test_what_a_handler_did_elsewhere_does_not_count(clock: list[float]) -> None:
    assert await measured(Sample(7, elsewhere=1.5), 2.0, clock) == [(7, 1, 0.5, 102.0)]


async def test_a_transaction_that_needed_several_attempts_tells_nothing(clock: list[float]) -> None:
    assert await measured(Sample(7, clean=False), 2.0, clock) == []


async def in_crowd(crowd: Crowd, place: AbstractAsyncContextManager[None]) -> None:
    async with place:
        await crowd.enter()


async def test_take_overs_do_not_count_against_a_limit_that_has_fallen() -> None:
    """One that waits for a former owner would stop all batches, if only one may run."""
    limiter, take_overs, batches = Limiter(4, adaptive=True), Crowd(), Crowd()  # begins with one
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(in_crowd, take_overs, limiter.taking_over())
            nursery.start_soon(in_crowd, batches, limiter.transaction())
        await trio.testing.wait_all_tasks_blocked()
        assert (limiter.limit, batches.inside, take_overs.inside) == (1, 1, 2)
        nursery.cancel_scope.cancel()


async def test_a_limit_that_falls_takes_no_slot_from_a_batch_that_has_one() -> None:
    limiter, batches = Limiter(3, adaptive=True), Crowd()
    for _ in range(3):
        limiter.observe(Sample(1), limiter.limit, 0.01, 0.0)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(in_crowd, batches, limiter.slot())
        await trio.testing.wait_all_tasks_blocked()
        limiter.restart()
        assert (limiter.limit, limiter.slots_taken, limiter.saturated) == (1, 3, True)
        batches.may_go.set()
    assert not limiter.saturated


async def test_a_batch_that_stands_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    """A handler that waits for another service would stop every key, while the limit is one."""
    limiter, standing, others = Limiter(3, adaptive=True), Crowd(), Crowd()  # begins with one
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.watch)
        nursery.start_soon(in_crowd, standing, limiter.slot())
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(in_crowd, others, limiter.slot())
        await trio.testing.wait_all_tasks_blocked()
        assert (standing.inside, others.inside) == (1, 0)
        await trio.sleep(2 * STANDING_SECONDS)
        assert (standing.inside, others.inside) == (1, 1)
        await trio.sleep(2 * STANDING_SECONDS)
        assert (standing.inside, others.inside) == (1, 2)  # they stand, too: three is the most
        nursery.cancel_scope.cancel()


async def test_where_all_is_slow_nobody_stands(autojump_clock: MockClock) -> None:
    limiter, batches = Limiter(3, adaptive=True), Crowd()
    for _ in range(200):
        limiter.observe(Sample(1), limiter.limit, 2.0, 0.0)
    limiter.restart()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.watch)
        for _ in range(3):
            nursery.start_soon(in_crowd, batches, limiter.transaction())
        await trio.sleep(10.0)
        assert batches.inside == 1
        nursery.cancel_scope.cancel()


async def test_one_that_waited_long_for_its_connection_counts_itself(
    autojump_clock: MockClock,
) -> None:
    limiter = Limiter(3, adaptive=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.watch)
        async with limiter.transaction():
            await trio.sleep(3 * STANDING_SECONDS)
            assert limiter.at_once == 1
            for _ in range(20):
                limiter.observe(Sample(5), limiter.at_once, 0.1, 0.0)
        nursery.cancel_scope.cancel()
    assert limiter.limit > 1
