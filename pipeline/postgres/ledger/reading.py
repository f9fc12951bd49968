"""The ledger as the operators' commands read and reset it, beside the instances. On asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import attrs

from pipeline.contracts.lane import Lane
from pipeline.contracts.store import AppliedOffsets, Claim
from pipeline.errors import PipelineError
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger import lanes, schema
from pipeline.postgres.ledger.lease import KEY, key_of
from pipeline.postgres.ledger.multirange import multirange_of, parse_multirange

Ranges = tuple[tuple[int, int], ...]

_EPOCHS = f"select writer, epoch from pipeline.ownership where {KEY} order by writer"
_RANGES = f"select range_agg(r)::text from pipeline.applied, unnest(offsets) r where {KEY}"
_RAISE = f"""\
update pipeline.ownership set epoch = epoch + 1, owner = $4, taken_at = now() where {KEY}"""
_FORGET = f"delete from pipeline.applied where {KEY}"
_REMEMBER = """\
insert into pipeline.applied (stream, topic_id, partition, offsets)
values ($1, $2, $3, $4::text::int8multirange)"""
_UNREFUSE = f"""\
delete from pipeline.refused
where {KEY} and record_offset >= 0 and not $4::text::int8multirange @> record_offset"""
_STREAM = """\
select o.partition, o.owner, (
    select range_agg(r)::text from pipeline.applied a, unnest(a.offsets) r
    where (a.stream, a.topic_id, a.partition) = (o.stream, o.topic_id, o.partition)) as applied
from pipeline.ownership o where o.stream = $1 and o.writer = 0"""


_STREAMS = """\
select o.stream, o.topic_id, o.partition, o.epoch, (
    select range_agg(r)::text from pipeline.applied a, unnest(a.offsets) r
    where (a.stream, a.topic_id, a.partition) = (o.stream, o.topic_id, o.partition)) as applied, (
    select max(a.folded) from pipeline.applied a
    where (a.stream, a.topic_id, a.partition) = (o.stream, o.topic_id, o.partition)) as folded
from pipeline.ownership o where o.stream = any($1) and o.writer = 0"""

_LANES = f"""\
select stream, topic_id, partition, {lanes.COLUMNS}, (
    select range_agg(r)::text from pipeline.applied a, unnest(a.offsets) r
    where (a.stream, a.topic_id, a.partition)
        = (l.stream || '#' || l.lane, l.topic_id, l.partition)) as applied
from pipeline.lanes l where stream = any($1) order by stream, topic_id, partition, lane"""


@attrs.frozen
class LedgerEntry:
    """What a shard's ledger holds of one partition.

    Attributes:
        epochs: (writer, epoch); they change when an instance takes the partition over.
        applied: ranges of applied offsets, half-open, sorted, disjoint.
        lanes: how many lanes are open.
    """

    epochs: tuple[tuple[int, int], ...] = ()
    applied: Ranges = ()
    lanes: int = 0


@attrs.frozen
class LaneEntry:
    """A lane, and what it has applied."""

    lane: Lane
    applied: Ranges


@attrs.frozen
class OwnedEntry:
    """A partition of a stream: the instance that took it over last, and what is applied."""

    owner: str
    applied: Ranges


async def read_entry(connection: Connection, claim: Claim) -> LedgerEntry:
    """What the ledger holds of a partition; an empty entry if the database has no ledger."""
    if not await schema.exists(connection):
        return LedgerEntry()
    epochs = await connection.fetch(_EPOCHS, *key_of(claim))
    applied = await connection.fetchval(_RANGES, *key_of(claim))
    found = (await read_lanes(connection, [claim.stream])).get(key_of(claim), ())
    return LedgerEntry(
        tuple((row["writer"], row["epoch"]) for row in epochs),
        tuple(parse_multirange(applied)),
        sum(entry.lane.until_offset is None for entry in found),
    )


async def read_stream(connection: Connection, stream: str) -> dict[int, OwnedEntry]:
    """Every partition of a stream that was ever taken over, by its number."""
    if not await schema.exists(connection):
        return {}
    return {
        row["partition"]: OwnedEntry(row["owner"], tuple(parse_multirange(row["applied"])))
        for row in await connection.fetch(_STREAM, stream)
    }


async def read_streams(
    connection: Connection, streams: Sequence[str]
) -> dict[tuple[str, UUID, int], AppliedOffsets]:
    """What is applied of each partition of some streams: by stream, topic id and number.

    The database has a ledger, which may be read.
    """
    return {
        (row["stream"], row["topic_id"], row["partition"]): AppliedOffsets.from_ranges(
            parse_multirange(row["applied"]), row["folded"], owned_before=row["epoch"] > 0
        )
        for row in await connection.fetch(_STREAMS, list(streams))
    }


async def read_lanes(
    connection: Connection, streams: Sequence[str]
) -> dict[tuple[str, UUID, int], tuple[LaneEntry, ...]]:
    """The lanes of some streams, oldest first: by stream, topic id and partition.

    None if the database has no ledger, or one that knows no lanes.
    """
    if not await connection.fetchval("select to_regclass('pipeline.lanes') is not null"):
        return {}
    found: dict[tuple[str, UUID, int], tuple[LaneEntry, ...]] = {}
    for row in await connection.fetch(_LANES, list(streams)):
        entry = LaneEntry(lanes.lane_of(row), tuple(parse_multirange(row["applied"])))
        key = (row["stream"], row["topic_id"], row["partition"])
        found[key] = (*found.get(key, ()), entry)
    return found


async def reset_entry(
    connection: Connection, claim: Claim, expected: Sequence[tuple[int, int]], applied: Ranges,
    owner: str,
) -> None:  # fmt: skip
    """Replace what the ledger holds of a partition, within the caller's transaction.

    The epochs are compared with ``expected`` and raised first, which locks the rows: whatever a
    former owner still sends comes too late.

    Raises:
        PipelineError: the partition was taken over since ``expected`` was read.
    """
    key = key_of(claim)
    rows = await connection.fetch(_EPOCHS + " for update", *key)
    if [(row["writer"], row["epoch"]) for row in rows] != list(expected):
        raise PipelineError(
            f"{claim.source} was taken over by an instance meanwhile: stop all instances and run "
            "the command again"
        )
    await connection.execute(_RAISE, *key, owner)
    await connection.execute(_FORGET, *key)
    if applied:
        await connection.execute(_REMEMBER, *key, multirange_of(applied))
    if await connection.fetchval("select to_regclass('pipeline.refused') is not null"):
        await connection.execute(_UNREFUSE, *key, multirange_of(applied))
