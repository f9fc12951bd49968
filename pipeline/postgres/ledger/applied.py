"""What is decided of a partition: rows folded into one, and dead letters with their reason. On asyncio.

What a batch has applied is noted by the batch's own statement: see `pipeline.postgres.ledger.lease`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger.lease import MARK, SERVER, Lease, fenced, guard, key_of
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, offset_of

_FOLD = f"""\
with done as (
    select d.* from unnest($1::text[], $2::uuid[], $3::int[], $4::int8[], $5::int8[])
        d(stream, topic_id, partition, epoch, watermark)
    join pipeline.ownership o using (stream, topic_id, partition, epoch)
    where o.writer = 0 and o.server = {SERVER}
), old as (
    delete from pipeline.applied a using done d
    where a.stream = d.stream and a.topic_id = d.topic_id and a.partition = d.partition
    returning a.*
), ranges as (
    select stream, topic_id, partition, r, folded from old, unnest(offsets) r
    union all
    select stream, topic_id, partition, int8range(0, watermark), watermark
    from done where watermark > 0
)
insert into pipeline.applied (stream, topic_id, partition, offsets, folded)
select stream, topic_id, partition, range_agg(r), max(folded) from ranges group by 1, 2, 3"""

_REFUSED = """\
insert into pipeline.refused (stream, topic_id, partition, record_offset, reason, error, sqlstate)
select $1, $2, $3, o, $5, $6, $7 from unnest($4::int8[]) o
on conflict (stream, topic_id, partition, record_offset)
do update set (reason, error, sqlstate) = (excluded.reason, excluded.error, excluded.sqlstate)"""


async def fold(connection: Connection, watermarks: Sequence[tuple[Lease, int]]) -> None:
    """Fold the rows of partitions into one each, in one statement for all of them."""
    rows = [(*key_of(lease.claim), lease.epoch, watermark) for lease, watermark in watermarks]
    await connection.execute(_FOLD, *(list(column) for column in zip(*rows, strict=True)))


async def refuse(
    connection: Connection, lease: Lease, records: Sequence[Record], why: DeadLetterReason
) -> None:
    """Mark dead letters, with their reason, in one transaction.

    Raises:
        Fenced: the lease is void.
    """
    offsets = list(map(offset_of, records))
    async with connection.transaction():
        if not await connection.fetchval(MARK, *guard(lease, records)):
            raise fenced(lease)
        told = (why.reason, why.error, why.sqlstate)
        await connection.execute(_REFUSED, *key_of(lease.claim.main), offsets, *told)
