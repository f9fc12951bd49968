"""The stores of all shards, each partition with the one that its number belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from pipeline.contracts.snapshot import ShardSnapshot
from pipeline.contracts.store import Claim, PartitionStore
from pipeline.postgres.ledger.tidying import Chore
from pipeline.postgres.store.shard_store import ShardStore
from pipeline.records.record import TopicPartition


class StoreRouter:
    """A `Store` over several databases."""

    def __init__(self, stores: dict[str, ShardStore], shard_of: Callable[[int], str]) -> None:
        self._stores = stores
        self._shard_of = shard_of

    async def open(self, claim: Claim) -> PartitionStore:
        """See `Store.open`; other shards' partitions do not wait for this one's."""
        return await self._stores[self._shard_of(claim.source.partition)].open(claim)

    def forget(self, claim: Claim) -> None:
        """See `Store.forget`. Not a checkpoint."""
        self._stores[self._shard_of(claim.source.partition)].forget(claim)

    def snapshots(self) -> list[ShardSnapshot]:
        """Every shard as it is now. Not a checkpoint."""
        return [store.snapshot() for store in self._stores.values()]

    def resize_batches(self, largest: int) -> None:
        """Let batches hold another number of records from now on. Not a checkpoint."""
        for store in self._stores.values():
            store.resize_batches(largest)

    async def tidy(
        self, chores: Sequence[Chore], streams: Sequence[str], lag: Callable[[], float | None]
    ) -> None:
        """Delete what the ledgers keep for a time only, until cancelled: see `Tidier`."""
        async with trio.open_nursery() as nursery:
            for store in self._stores.values():
                nursery.start_soon(store.tidy, chores, streams, lag)

    def refused(self, source: TopicPartition) -> int:
        """See `Recovery.refused`."""
        return self._stores[self._shard_of(source.partition)].refused(source)

    def answers(self, source: TopicPartition) -> bool:
        """See `Recovery.answers`."""
        return self._stores[self._shard_of(source.partition)].answers(source)

    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """See `Store.fold`; shards are asked at once, so a slow one delays no other."""
        by_shard: dict[str, list[tuple[Claim, int]]] = {}
        for claim, watermark in watermarks:
            by_shard.setdefault(self._shard_of(claim.source.partition), []).append(
                (claim, watermark)
            )
        async with trio.open_nursery() as nursery:
            for name, share in by_shard.items():
                nursery.start_soon(self._stores[name].fold, share)

    async def voided(self, claims: Sequence[Claim]) -> list[Claim]:
        """See `Store.voided`; shards are asked at once."""
        by_shard: dict[str, list[Claim]] = {}
        for claim in claims:
            by_shard.setdefault(self._shard_of(claim.source.partition), []).append(claim)
        found: list[Claim] = []

        async def ask(name: str, share: list[Claim]) -> None:
            found.extend(await self._stores[name].voided(share))

        async with trio.open_nursery() as nursery:
            for name, share in by_shard.items():
                nursery.start_soon(ask, name, share)
        return found
