"""A shard's transactions, as the store sees them: each is one crossing of the bridge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from pipeline.contracts.store import AppliedOffsets, Claim
from pipeline.postgres import ledger
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger import Lease, mark
from pipeline.records.record import Record
from pipeline.records.rows import Shape


class Applier(Protocol):
    """What turns records into the statements of one transaction."""

    @property
    def shape(self) -> Shape | None:
        """See `PartitionStore.shape`."""

    async def write(self, shard: Shard, lease: Lease | None, records: Sequence[Record]) -> int:
        """Apply records in one transaction, with the ledger where there is a lease.

        Returns how many rows were sent.

        Raises:
            Fenced: the lease is void; nothing was written.
            Exception: see `errors.judge`; nothing was written unless it says in doubt.
        """


class Database:
    """The five transactions that the store needs. ``exactly_once`` False: no ledger at all."""

    def __init__(self, shard: Shard, applier: Applier, owner: str, *, exactly_once: bool) -> None:
        self._shard = shard
        self._applier = applier
        self._owner = owner
        self._exactly_once = exactly_once
        self.shape = applier.shape

    async def take_over(self, claim: Claim, writers: int) -> tuple[list[int], AppliedOffsets]:
        """Become the owner: the epoch of each writer, and what is applied."""
        if not self._exactly_once:
            return [0] * writers, AppliedOffsets()
        return await self._shard.run(
            partial(ledger.take_over, claim=claim, owner=self._owner, writers=writers)
        )

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        """Apply records and note their offsets, in one transaction; see `Applier.write`."""
        return await self._applier.write(
            self._shard, lease if self._exactly_once else None, records
        )

    async def mark(self, lease: Lease, records: Sequence[Record]) -> None:
        """Note offsets as decided, without data: their records are among the dead letters."""
        if self._exactly_once:
            await self._shard.run(partial(mark, lease=lease, records=records))

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        """Settle a write in doubt: the writer's new epoch, and whether it was committed.

        Without a ledger nobody knows, and it is taken as not committed: at least once.
        """
        if not self._exactly_once:
            return lease.epoch, False
        offsets = [record.offset for record in records]
        return await self._shard.run(partial(ledger.resolve, lease=lease, offsets=offsets))

    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """Fold the ledger's rows of these partitions into one each."""
        if self._exactly_once:
            await self._shard.run(partial(ledger.fold, watermarks=watermarks))
