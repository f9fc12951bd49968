"""What a rewind does to a partition's lanes, in the transaction that resets the partition. On asyncio.

Going back to an offset, a lane forgets what it has applied from there on, as the partition does; what waits
in it goes on waiting. One that was closed ends at that offset, if it ended later: all below is applied, and
from there on its records are the main way's, which applies them again. Skipping to an offset, what waits in
a lane below it is skipped like all else.
"""

from __future__ import annotations

from enum import Enum

from pipeline.contracts.store import Claim
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger.lease import KEY, key_of

_OF_LANES = f"""\
(stream, topic_id, partition) in (
    select l.stream || '#' || l.lane, l.topic_id, l.partition from pipeline.lanes l where l.{KEY})"""

_RAISE = f"""\
update pipeline.ownership set epoch = epoch + 1, owner = $4, taken_at = now() where {_OF_LANES}"""

_BACK = f"""\
with old as (delete from pipeline.applied where {_OF_LANES} returning *)
insert into pipeline.applied (stream, topic_id, partition, offsets)
select stream, topic_id, partition, range_agg(r) * int8multirange(int8range(0, $4::int8))
from old, unnest(offsets) r group by 1, 2, 3"""

_CUT = f"""\
update pipeline.lanes set until_offset = greatest(from_offset, least(until_offset, $4::int8))
where {KEY} and until_offset is not null"""

_SKIP = f"""\
insert into pipeline.applied (stream, topic_id, partition, offsets)
select stream || '#' || lane, topic_id, partition, int8multirange(int8range(0, $4::int8))
from pipeline.lanes where {KEY} and $4::int8 > 0"""


class LaneMove(Enum):
    """What becomes of a partition's lanes."""

    STAY = "stay"
    BACK = "back"
    SKIP = "skip"


async def move_lanes(
    connection: Connection, claim: Claim, move: LaneMove, to: int, owner: str
) -> None:
    """Move a partition's lanes to an offset, and raise their epochs, within the caller's transaction."""
    key = key_of(claim)
    await connection.execute(_RAISE, *key, owner)
    if move is LaneMove.BACK:
        await connection.execute(_BACK, *key, to)
        await connection.execute(_CUT, *key, to)
    elif move is LaneMove.SKIP:
        await connection.execute(_SKIP, *key, to)
