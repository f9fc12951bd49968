"""The ledger of one shard, as its store uses it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.store import Claim
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger import lanes
from pipeline.postgres.ledger.applied import fold, refuse
from pipeline.postgres.ledger.lease import MARK, Lease, TakenOver, fenced, guard
from pipeline.postgres.ledger.ownership import resolve, take_over, voided
from pipeline.postgres.ledger.schema import migrate
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, offset_of


class Ledger(Protocol):
    """What says which offsets are applied to a shard. All but `guard` and `note` run on Trio.

    Each function that runs on Trio is one transaction: a checkpoint; cancelled, it waits for the
    asyncio side to end. It raises what Postgres and the connection raise (see
    `pipeline.postgres.connections.errors.judge`).
    """

    async def prepare(self) -> None:
        """Create or upgrade what the ledger needs in the database."""

    async def take_over(self, claim: Claim, writers: int, under: Lease | None = None) -> TakenOver:
        """Become a partition's owner, or a lane's under the fence of its partition.

        Waits for the former owner's running transactions.

        Raises:
            Fenced: ``under`` is void.
        """

    def guard(self, lease: Lease, records: Sequence[Record]) -> tuple[Any, ...] | None:
        """The parameters that a guarded statement begins with; None: statements go unguarded."""

    async def note(self, connection: Connection, lease: Lease, records: Sequence[Record]) -> None:
        """Note offsets as applied, within the caller's transaction. On asyncio.

        Raises:
            Fenced: the lease is void.
        """

    async def mark(
        self, lease: Lease, records: Sequence[Record], why: DeadLetterReason | None = None
    ) -> None:
        """Note offsets as decided without data: their records are dead letters, or change nothing.

        Args:
            why: the reason, if they are dead letters; it is kept beside the mark if the ledger keeps
                reasons.

        Raises:
            Fenced: the lease is void.
        """

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        """Settle a write in doubt: the writer's new epoch, and whether the write was committed.

        Raises:
            Fenced: the lease is void.
        """

    async def fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        """Fold the rows of partitions, all of them at once, into one row per partition.

        Partitions whose lease (of writer 0) is void are left as they are: what this instance believes
        to be applied may not be what the database has.
        """

    async def voided(self, leases: Sequence[Lease]) -> list[Lease]:
        """Which of these leases another server gave: the database is not the one that it was."""

    async def open_lane(self, lease: Lease, lane: Lane) -> None:
        """Write a lane's row, if it is not there already.

        Raises:
            Fenced: the lease is void.
        """

    async def note_failure(self, lease: Lease, number: int, failure: LaneFailure | None) -> None:
        """Write what holds up a lane.

        Raises:
            Fenced: the lease is void.
        """

    async def close_lane(self, lease: Lease, number: int, until: int) -> None:
        """Write where a lane ends.

        Raises:
            Fenced: the lease is void.
        """

    async def forget_lanes(self, lease: Lease) -> list[int]:
        """Delete the closed lanes that are folded past; return the closed ones that are left.

        Raises:
            Fenced: the lease is void.
        """


class PostgresLedger:
    """The ledger in the shard itself; see the room's essay.

    Args:
        shard: the shard.
        owner: how this instance is named in it.
        reasons: whether to keep the reasons of dead letters, which receipts tell.
        keys: whether to make the table of idempotency keys: see `pipeline.postgres.ledger.keys`.
    """

    def __init__(
        self, shard: Shard, owner: str, *, reasons: bool = False, keys: bool = False
    ) -> None:
        self._shard = shard
        self._owner = owner
        self._reasons = reasons
        self._keys = keys

    async def prepare(self) -> None:
        """See `Ledger.prepare`."""
        wanted = {"refused": self._reasons, "idempotency_keys": self._keys}
        extras = [name for name, needed in wanted.items() if needed]
        await self._shard.run(partial(migrate, extras=extras))

    async def take_over(self, claim: Claim, writers: int, under: Lease | None = None) -> TakenOver:
        """See `Ledger.take_over`."""
        return await self._shard.run(
            partial(take_over, claim=claim, owner=self._owner, writers=writers, under=under)
        )

    def guard(self, lease: Lease, records: Sequence[Record]) -> tuple[Any, ...]:
        """See `Ledger.guard`."""
        return guard(lease, records)

    async def note(self, connection: Connection, lease: Lease, records: Sequence[Record]) -> None:
        """See `Ledger.note`."""
        if not await connection.fetchval(MARK, *guard(lease, records)):
            raise fenced(lease)

    async def mark(
        self, lease: Lease, records: Sequence[Record], why: DeadLetterReason | None = None
    ) -> None:
        """See `Ledger.mark`."""
        if why is None or not self._reasons:
            await self._shard.run(partial(self.note, lease=lease, records=records))
        else:
            await self._shard.run(partial(refuse, lease=lease, records=records, why=why))

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        """See `Ledger.resolve`."""
        offsets = list(map(offset_of, records))
        return await self._shard.run(partial(resolve, lease=lease, offsets=offsets))

    async def fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        """See `Ledger.fold`."""
        await self._shard.run(partial(fold, watermarks=watermarks))

    async def voided(self, leases: Sequence[Lease]) -> list[Lease]:
        """See `Ledger.voided`."""
        return await self._shard.run(partial(voided, leases=leases))

    async def open_lane(self, lease: Lease, lane: Lane) -> None:
        """See `Ledger.open_lane`."""
        await self._shard.run(partial(lanes.open_lane, lease=lease, lane=lane))

    async def note_failure(self, lease: Lease, number: int, failure: LaneFailure | None) -> None:
        """See `Ledger.note_failure`."""
        work = partial(lanes.note_failure, lease=lease, number=number, failure=failure)
        await self._shard.run(work)

    async def close_lane(self, lease: Lease, number: int, until: int) -> None:
        """See `Ledger.close_lane`."""
        await self._shard.run(partial(lanes.close_lane, lease=lease, number=number, until=until))

    async def forget_lanes(self, lease: Lease) -> list[int]:
        """See `Ledger.forget_lanes`."""
        return await self._shard.run(partial(lanes.forget_lanes, lease=lease))
