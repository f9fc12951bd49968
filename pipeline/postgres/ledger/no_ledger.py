"""No ledger, for at-least-once."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.store import Claim
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record


class NoLedger:
    """At least once: nothing is noted, nobody is fenced, and what is in doubt was not committed."""

    async def prepare(self) -> None:
        """Nothing is made."""

    async def take_over(self, claim: Claim, writers: int, under: Lease | None = None) -> TakenOver:
        """Nothing is known to be applied; Kafka's commit says where to start."""
        del claim, under
        return TakenOver([0] * writers)

    def guard(self, lease: Lease, records: Sequence[Record]) -> None:
        """Statements go unguarded."""

    async def note(self, connection: Connection, lease: Lease, records: Sequence[Record]) -> None:
        """Nothing is noted."""

    async def mark(
        self, lease: Lease, records: Sequence[Record], why: DeadLetterReason | None = None
    ) -> None:
        """Nothing is noted."""

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        """Nobody knows, so the write is taken as not committed."""
        del records
        return lease.epoch, False

    async def fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        """There are no rows."""

    async def voided(self, leases: Sequence[Lease]) -> list[Lease]:
        """Nobody knows."""
        del leases
        return []

    async def open_lane(self, lease: Lease, lane: Lane) -> None:
        """There are no lanes: without a ledger nothing says what waits."""
        raise NotImplementedError("without a ledger no lane is opened")

    async def note_failure(self, lease: Lease, number: int, failure: LaneFailure | None) -> None:
        """There are no lanes."""
        raise NotImplementedError("without a ledger no lane is opened")

    async def close_lane(self, lease: Lease, number: int, until: int) -> None:
        """There are no lanes."""
        raise NotImplementedError("without a ledger no lane is opened")

    async def forget_lanes(self, lease: Lease) -> list[int]:
        """There are no lanes."""
        del lease
        return []
