"""A writer's lease, and the fence that makes it hold: what every guarded statement carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from pipeline.contracts.lane import Lane
from pipeline.contracts.store import AppliedOffsets, Claim, Fenced
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger.multirange import multirange
from pipeline.records.record import Record, offset_of

KEY = "stream = $1 and topic_id = $2 and partition = $3"
"""A partition's rows, in both tables: the parameters are those of `key_of`."""

SERVER = "extract(epoch from pg_postmaster_start_time())::text"
"""SQL of the identity of the server that runs a statement: when its process started, to the microsecond.

A standby that was promoted, a server restored from a backup, one that crashed and came back: each is
another one. See the room's essay, *Commits that were taken back*.
"""

FENCE = (
    f"select 1 from pipeline.ownership where {KEY} and writer = $4 and epoch = $5 "
    f"and server = {SERVER} for share"
)
RECORD_APPLIED = (
    "insert into pipeline.applied (stream, topic_id, partition, offsets) "
    "select $1, $2, $3, $6::text::int8multirange"
)
MARK = (
    f"with fence as ({FENCE}), ledger as ({RECORD_APPLIED} from fence) select count(*) from fence"
)

GUARD_PARAMETERS = 6
"""How many parameters `guard` gives: the fence's five, and the offsets."""


@attrs.frozen
class Lease:
    """A writer's right to write: it holds while the epoch in its ownership row is this one."""

    claim: Claim
    writer: int
    epoch: int

    def parameters(self) -> tuple[Any, ...]:
        """The fence's parameters, $1 to $5."""
        return (*key_of(self.claim), self.writer, self.epoch)


@attrs.frozen
class TakenOver:
    """What a new owner gets and learns.

    Attributes:
        epochs: by writer.
        applied: what is applied.
        lanes: the partition's lanes, oldest first.
        last_lane: the largest number that a lane of it ever had.
    """

    epochs: Sequence[int]
    applied: AppliedOffsets = AppliedOffsets()  # noqa: RUF009 (frozen)
    lanes: Sequence[Lane] = ()
    last_lane: int = 0


def key_of(claim: Claim) -> tuple[Any, ...]:
    return (claim.stream, claim.topic_id, claim.source.partition)


def guard(lease: Lease, records: Sequence[Record]) -> tuple[Any, ...]:
    """The first `GUARD_PARAMETERS` parameters of a guarded statement."""
    return (*lease.parameters(), multirange(map(offset_of, records)))


async def holds(connection: Connection, lease: Lease) -> bool:
    """Whether a lease holds just now. On asyncio."""
    return bool(await connection.fetchval(f"select exists ({FENCE})", *lease.parameters()))


def fenced(lease: Lease) -> Fenced:
    """The error of a statement that found its lease void."""
    return Fenced(f"{lease.claim.source}: writer {lease.writer} lost epoch {lease.epoch}")
