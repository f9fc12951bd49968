"""What became of records: the truth for receipts, of many records by one statement. On asyncio.

Each of `ANSWERS` says what one part of the ledger knows of the records in ``asked``: their place in the
question, a state, and why. A record of which none of them knows anything waits. If several know it the
first in the list is right: the reason of a dead letter stands beside a mark that looks like any other.
Whatever else keeps records on another way than the main one answers by a select of its own in this list;
``$1`` are the streams to be looked at.

A record in the range of an open lane may be the lane's, and the lane's rule is about its key or tenant,
which a receipt does not tell. To the partition's own watermark it is done either way. So it counts as
applied if the lane has it too, or if the row that its own transaction wrote is still there, which is so
until it is folded; otherwise it is told as waiting, which may be too careful and is never wrong the other
way. (A row that begins at 0 is a rewind's, which knows no better than a fold.) Once the lane is closed
the watermark says the truth: what was the lane's is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from uuid import UUID

import attrs

from pipeline.postgres.connections.bridge import Connection


class State(Enum):
    """Of a record that Kafka has acknowledged."""

    WAITING = "waiting"
    """Nothing has become of it yet."""
    APPLIED = "applied"
    """Its effect is committed; or it has none, as it was applied before under the same key."""
    REFUSED = "refused"
    """It is a dead letter."""
    SET_ASIDE = "set-aside"
    """It waits in a lane."""
    UNKNOWN = "unknown"
    """The ledger can't be asked."""


@attrs.frozen
class Place:
    """A record: the topic's id, the partition, the offset."""

    topic_id: UUID
    partition: int
    offset: int


@attrs.frozen
class Outcome:
    """What became of a record; ``why`` is a sentence, or empty."""

    state: State
    why: str = ""


WAITING = Outcome(State.WAITING)

MAY_BE_IN_A_LANE = "some records of its partition wait in a lane, and it may be one of them"

_FORGOTTEN = (
    "it was decided more than 30 days ago; whether it was applied or refused is not kept for longer"
)

_IS_FORGOTTEN = """\
exists (select from pipeline.refused f where f.stream = any($1)
    and (f.topic_id, f.partition, f.record_offset) = (asked.topic_id, asked.partition, -1)
    and asked.record_offset <= case when f.record_offset = -1 then f.reason::int8 end)"""

_APPLIED_FOR_SURE = f"""\
select asked.place, 'applied', '', 30 from asked
join pipeline.applied a on a.stream = any($1)
    and (a.topic_id, a.partition) = (asked.topic_id, asked.partition)
    and a.offsets @> asked.record_offset
    and case when a.folded is null then lower(a.offsets) > 0
        else asked.record_offset >= a.folded end
where not {_IS_FORGOTTEN}"""

_APPLIED = f"""\
select asked.place, case when {_IS_FORGOTTEN} then 'unknown' else 'applied' end,
    case when {_IS_FORGOTTEN} then '{_FORGOTTEN}' else '' end, 90 from asked
join (
    select p.topic_id, p.partition, range_agg(r) as offsets
    from (select distinct topic_id, partition from asked) p
    join pipeline.applied a
        on a.stream = any($1) and (a.topic_id, a.partition) = (p.topic_id, p.partition),
    unnest(a.offsets) r group by 1, 2
) applied using (topic_id, partition)
where applied.offsets @> asked.record_offset"""

_MAY_BE_IN_A_LANE = f"""\
select asked.place, 'waiting', '{MAY_BE_IN_A_LANE}', 50 from asked
join pipeline.lanes l on l.stream = any($1) and l.until_offset is null
    and (l.topic_id, l.partition) = (asked.topic_id, asked.partition)
    and l.from_offset <= asked.record_offset and not l.left_out @> asked.record_offset
where not exists (
    select from pipeline.applied a
    where (a.stream, a.topic_id, a.partition) = (l.stream || '#' || l.lane, l.topic_id, l.partition)
        and a.offsets @> asked.record_offset)"""

_REFUSED = """\
select asked.place, 'refused', r.reason, 10 from asked
join pipeline.refused r on r.stream = any($1) and (r.topic_id, r.partition, r.record_offset)
    = (asked.topic_id, asked.partition, asked.record_offset)"""

ANSWERS = (_REFUSED, _APPLIED_FOR_SURE, _MAY_BE_IN_A_LANE, _APPLIED)
"""From the one that is right if several know a record, to the one that every decided record has."""

QUESTION = f"""\
with asked as materialized (
    select * from unnest($2::uuid[], $3::int[], $4::int8[])
        with ordinality a(topic_id, partition, record_offset, place)
)
select distinct on (place) place, state, why from (
{" union all ".join(ANSWERS)}
) answers(place, state, why, rank) order by place, rank"""

NEEDED = ("applied", "lanes", "refused")
"""The tables that are read."""

_FORBIDDEN = """\
select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'pipeline' and c.relname = any($1)
    and not (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))
order by 1"""


async def ask(
    connection: Connection, streams: Sequence[str], places: Sequence[Place]
) -> dict[Place, Outcome]:
    """Return what became of records; those that wait are left out. One statement. On asyncio.

    Those that may wait in a lane are told, with the reason.
    """
    topics, partitions, offsets = zip(
        *((place.topic_id, place.partition, place.offset) for place in places), strict=True
    )
    rows = await connection.fetch(QUESTION, streams, topics, partitions, offsets)
    return {places[row["place"] - 1]: Outcome(State(row["state"]), row["why"]) for row in rows}


async def forbidden(connection: Connection) -> list[str]:
    """Return which of the tables may not be read; none if they are not there yet. On asyncio."""
    rows = await connection.fetch(_FORBIDDEN, NEEDED)
    return [f"pipeline.{row['name']}" for row in rows]
