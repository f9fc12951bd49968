"""The rows of lanes: what a partition's owner reads, opens, closes and forgets. All SQL of it.

What a lane has applied is not here: a lane is a claim of its own in the ledger, whose stream has the lane's
number appended. See ``docs/decisions/0029-lanes.md`` for why this is exactly once.

The fence is that of the partition's keeper, a writer that writes no batches (``$4``, ``$5``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.contracts.lane import Lane, LaneFailure, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.store import Claim
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger.lease import FENCE, KEY, SERVER, Lease, fenced, key_of
from pipeline.postgres.ledger.multirange import multirange_of, parse_multirange

COLUMNS = """\
lane, rule::text as rule, reason, from_offset, until_offset, left_out::text as left_out, hold,
extract(epoch from opened_at)::float8 as opened_at,
failed_offset, extract(epoch from failed_at)::float8 as failed_at, failed_why"""

_LANES = f"select {COLUMNS} from pipeline.lanes where {KEY} order by lane"
_LAST = f"select coalesce(max(last_lane), 0) from pipeline.ownership where {KEY}"

OPEN = f"""\
with fence as (
    update pipeline.ownership set last_lane = greatest(last_lane, $6::int)
    where {KEY} and writer = $4 and epoch = $5 and server = {SERVER} returning 1
), opened as (
    insert into pipeline.lanes (stream, topic_id, partition, lane, rule, reason, from_offset,
        until_offset, left_out, hold, opened_at, failed_offset, failed_at, failed_why)
    select $1, $2, $3, $6::int, $7::text::json, $8, $9::int8, $10::int8,
        $11::text::int8multirange, $12, to_timestamp($13::float8),
        $14::int8, to_timestamp($15::float8), $16 from fence
    on conflict (stream, topic_id, partition, lane) do nothing
)
select count(*) from fence"""

CLOSE = f"""\
with fence as ({FENCE}), closed as (
    update pipeline.lanes set until_offset = $7::int8 from fence where {KEY} and lane = $6::int
)
select count(*) from fence"""

NOTE = f"""\
with fence as ({FENCE}), noted as (
    update pipeline.lanes
    set failed_offset = $7::int8, failed_at = to_timestamp($8::float8), failed_why = $9
    from fence where {KEY} and lane = $6::int
)
select count(*) from fence"""

FORGET = f"""\
with fence as ({FENCE}), done as (
    select range_agg(r) as offsets from pipeline.applied, unnest(offsets) r where {KEY}
), gone as (
    delete from pipeline.lanes l using fence, done where l.{KEY}
        and done.offsets @> int8range(0, until_offset) returning lane
), streams as (
    select $1 || '#' || lane as lane_stream from gone
), owned as (
    delete from pipeline.ownership using streams
    where (stream, topic_id, partition) = (lane_stream, $2, $3)
), applied as (
    delete from pipeline.applied using streams
    where (stream, topic_id, partition) = (lane_stream, $2, $3)
)
select count(*) from fence"""
"""Of an open lane the range has no end: ``until_offset`` is null, and nothing contains that for sure."""

_CLOSED = f"select lane from pipeline.lanes where {KEY} and until_offset is not null order by lane"


async def read(connection: Connection, claim: Claim) -> tuple[tuple[Lane, ...], int]:
    """Read a partition's lanes, oldest first, and the largest number that was ever given."""
    key = key_of(claim)
    found = tuple(map(lane_of, await connection.fetch(_LANES, *key)))
    last = await connection.fetchval(_LAST, *key)
    # Whoever moved a partition to another database has copied the lanes, but not that.
    return found, max(last, found[-1].number if found else 0)


async def demand(connection: Connection, lease: Lease) -> None:
    """Hold a lease until the end of the caller's transaction.

    Raises:
        Fenced: it is void.
    """
    if await connection.fetchval(FENCE, *lease.parameters()) is None:
        raise fenced(lease)


async def open_lane(connection: Connection, lease: Lease, lane: Lane) -> None:
    """Write a lane's row, if it is not there already.

    Raises:
        Fenced: the lease is void.
    """
    opened = await connection.fetchval(
        OPEN, *lease.parameters(), lane.number, json.dumps(lane.rule.to_json()), lane.reason.value,
        lane.from_offset, lane.until_offset, multirange_of(lane.left_out), lane.hold,
        lane.opened_at, *_failed(lane.failure),
    )  # fmt: skip
    if not opened:
        raise fenced(lease)


async def close_lane(connection: Connection, lease: Lease, number: int, until: int) -> None:
    """Write where a lane ends.

    Raises:
        Fenced: the lease is void.
    """
    if not await connection.fetchval(CLOSE, *lease.parameters(), number, until):
        raise fenced(lease)


async def note_failure(
    connection: Connection, lease: Lease, number: int, failure: LaneFailure | None
) -> None:
    """Write what holds up a lane.

    Raises:
        Fenced: the lease is void.
    """
    if not await connection.fetchval(NOTE, *lease.parameters(), number, *_failed(failure)):
        raise fenced(lease)


def _failed(failure: LaneFailure | None) -> tuple[int | None, float | None, str | None]:
    """The columns of a failure."""
    if failure is None:
        return None, None, None
    why = failure.why.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return failure.offset, failure.since, why


async def forget_lanes(connection: Connection, lease: Lease) -> list[int]:
    """Delete the closed lanes that the partition has folded past; return the closed ones that are left.

    Raises:
        Fenced: the lease is void.
    """
    async with connection.transaction():
        if not await connection.fetchval(FORGET, *lease.parameters()):
            raise fenced(lease)
        return [row["lane"] for row in await connection.fetch(_CLOSED, *key_of(lease.claim))]


def lane_of(row: Mapping[str, Any]) -> Lane:
    """The lane that a row of `COLUMNS` says."""
    failure = None
    if row["failed_offset"] is not None:
        failure = LaneFailure(row["failed_offset"], row["failed_at"], row["failed_why"])
    return Lane(
        number=row["lane"],
        rule=Rule.from_json(json.loads(row["rule"])),
        reason=LaneReason(row["reason"]),
        from_offset=row["from_offset"],
        until_offset=row["until_offset"],
        left_out=tuple(parse_multirange(row["left_out"])),
        hold=row["hold"],
        opened_at=row["opened_at"],
        failure=failure,
    )
