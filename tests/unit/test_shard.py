"""Which of a shard's connections go to batches, and which to take-overs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from pipeline.config.model import ShardConfig
from pipeline.contracts.store import AppliedOffsets, Claim
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Connection, Session
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.store.batch_sizer import BatchSizer
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

    async def take_over(self, claim: Claim, writers: int) -> tuple[list[int], AppliedOffsets]:
        await self.taking_over.enter()
        return await super().take_over(claim, writers)


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

    store = ShardStore(shard, connect, FakeDeadLetters(), BatchSizer(100, bounded=False))
    claims = [attrs.evolve(CLAIM, source=TopicPartition("t", number)) for number in range(20)]
    async with trio.open_nursery() as nursery:
        for claim in claims:
            nursery.start_soon(store.open, claim)
        await trio.testing.wait_all_tasks_blocked()
        assert database.taking_over.inside == at_once
        for _ in range(20):
            nursery.start_soon(shard.transact, batches.enter)
        await trio.testing.wait_all_tasks_blocked()
        assert batches.inside == left
        database.taking_over.may_go.set()
        batches.may_go.set()
    assert database.calls.count("take_over") == len(claims)
