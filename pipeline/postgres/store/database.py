"""A shard's transactions, as the store sees them: the applier's writes, and the ledger's questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.store import Claim
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.postgres.ledger.ledger import Ledger
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from pipeline.records.rows import Shape


class Transactions(Protocol):
    """What the store asks of a database; each function is one transaction, and a checkpoint.

    Cancelled, it waits until the database's side has ended, and nobody may conclude from the
    cancelling whether it was committed. It raises what Postgres and the connection raise: see
    `pipeline.postgres.connections.errors.judge` for what each error means.
    """

    @property
    def shape(self) -> Shape | None:
        """See `pipeline.contracts.store.PartitionStore.shape`."""

    async def take_over(self, claim: Claim, writers: int, under: Lease | None = None) -> TakenOver:
        """Become a partition's owner, with so many writers; or a lane's, if its partition is ours.

        Waits for the former owner's running transactions. The former owner is fenced afterwards.

        Args:
            under: a lease of the partition which a lane belongs to.

        Raises:
            Fenced: ``under`` is void.
        """

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        """Apply records and note their offsets, all or nothing; return how many rows were sent.

        Raises:
            Fenced: the lease is void; nothing was written.
        """

    async def probe(self) -> bool:
        """Run the statement of `write` over no rows; False if there is none, as of a handler.

        So permissions, names and syntax are checked and no value is touched: what it raises is no
        record's fault.
        """

    async def mark(
        self, lease: Lease, records: Sequence[Record], why: DeadLetterReason | None = None
    ) -> None:
        """Note offsets as decided without data: their records are among the dead letters.

        Marking twice does no harm. ``why`` is kept beside the mark if the ledger keeps reasons.

        Raises:
            Fenced: the lease is void.
        """

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        """Settle a write in doubt: the writer's new epoch, and whether the write was committed.

        Raises:
            Fenced: the lease is void.
        """

    async def fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        """Everything below each watermark is applied and committed to Kafka: keep it as one range.

        Partitions whose lease is void are left as they are.
        """

    async def voided(self, leases: Sequence[Lease]) -> list[Lease]:
        """Which of these leases another server gave."""

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


class Applier(Protocol):
    """What turns records into the statements of one transaction."""

    @property
    def shape(self) -> Shape | None:
        """See `pipeline.contracts.store.PartitionStore.shape`."""

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        """See `Transactions.write`."""

    async def probe(self) -> bool:
        """See `Transactions.probe`."""


class Database:
    """`Transactions` of a real shard."""

    def __init__(self, ledger: Ledger, applier: Applier) -> None:
        self.shape = applier.shape
        self.take_over = ledger.take_over
        self.write = applier.write
        self.probe = applier.probe
        self.mark = ledger.mark
        self.resolve = ledger.resolve
        self.fold = ledger.fold
        self.voided = ledger.voided
        self.open_lane = ledger.open_lane
        self.note_failure = ledger.note_failure
        self.close_lane = ledger.close_lane
        self.forget_lanes = ledger.forget_lanes
