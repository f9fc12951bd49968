"""Whose a partition is, or a lane: the epochs of its writers, raised and compared. On asyncio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.contracts.store import AppliedOffsets, Claim
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger import lanes
from pipeline.postgres.ledger.lease import KEY, SERVER, Lease, TakenOver, fenced, key_of
from pipeline.postgres.ledger.multirange import multirange, parse_multirange

_RAISE_EPOCHS = f"""\
with owned as (select writer from pipeline.ownership where {KEY} order by writer for update)
update pipeline.ownership o set owner = $4, taken_at = now(), server = {SERVER},
    epoch = case when o.server = {SERVER} then o.epoch + 1
        else greatest(o.epoch + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint) end
from owned where o.{KEY} and o.writer = owned.writer"""
"""A server that came back without its last commits has forgotten epochs as well. If it gave the same ones
once more, what was sent to its predecessor and arrives late, through a pooler, would pass the fence. So the
first epoch on a server is the time of day, in microseconds, which no predecessor has given."""
_ADD_WRITERS = """\
insert into pipeline.ownership (stream, topic_id, partition, writer, epoch, owner, taken_at)
select $1, $2, $3, writer, 0, $4, now() from generate_series(0, $5::int - 1) writer
on conflict (stream, topic_id, partition, writer) do nothing returning writer"""
_EPOCHS = f"select epoch from pipeline.ownership where {KEY} and writer < $4 order by writer"
_APPLIED = f"""\
select range_agg(r)::text as applied, max(folded) as folded
from pipeline.applied, unnest(offsets) r where {KEY}"""

RESOLVE = f"""\
update pipeline.ownership set epoch = epoch + 1
where {KEY} and writer = $4 and epoch = $5 and server = {SERVER}
returning epoch"""
_HAS = f"""\
select coalesce(range_agg(r) @> $4::text::int8multirange, false)
from pipeline.applied, unnest(offsets) r where {KEY}"""

_VOIDED = f"""\
select l.place from unnest($1::text[], $2::uuid[], $3::int[])
    with ordinality l(stream, topic_id, partition, place)
left join pipeline.ownership o on (o.stream, o.topic_id, o.partition, o.writer)
    = (l.stream, l.topic_id, l.partition, 0)
where o.server is distinct from {SERVER}
order by l.place"""


async def take_over(
    connection: Connection, claim: Claim, owner: str, writers: int, under: Lease | None = None
) -> TakenOver:
    """Raise all epochs of a partition, or of a lane; then read what is applied, and the lanes.

    Raises:
        Fenced: the partition's lease ``under`` which a lane is taken over is void.
    """
    key = key_of(claim)
    async with connection.transaction():
        # Rows first: two instances that take a partition over for the first time at once would find
        # none to raise, and both get the epoch of the rows that one of them adds.
        added = await connection.fetch(_ADD_WRITERS, *key, owner, writers)
        await connection.execute(_RAISE_EPOCHS, *key, owner)
        epochs = [row["epoch"] for row in await connection.fetch(_EPOCHS, *key, writers)]
        row = await connection.fetchrow(_APPLIED, *key)
        found, last = await lanes.read(connection, claim) if claim.lane is None else ((), 0)
        if under is not None:
            # Last: the wait for a lane's former owner must not hold the partition's row.
            await lanes.demand(connection, under)
    assert row is not None, "an aggregate has one row"
    applied = AppliedOffsets.from_ranges(
        parse_multirange(row["applied"]), row["folded"],
        owned_before=all(each["writer"] != 0 for each in added),
    )  # fmt: skip
    return TakenOver(epochs, applied, found, last)


async def resolve(connection: Connection, lease: Lease, offsets: Iterable[int]) -> tuple[int, bool]:
    """Settle a write in doubt: the writer's new epoch, and whether the write was committed.

    Raises:
        Fenced: the partition has another owner.
    """
    async with connection.transaction():
        epoch = await connection.fetchval(RESOLVE, *lease.parameters())
        if epoch is None:
            raise fenced(lease)
        applied = await connection.fetchval(_HAS, *key_of(lease.claim), multirange(offsets))
    return epoch, applied


async def voided(connection: Connection, leases: Sequence[Lease]) -> list[Lease]:
    """Which of these leases another server gave."""
    keys = zip(*(key_of(lease.claim) for lease in leases), strict=True)
    rows = await connection.fetch(_VOIDED, *map(list, keys))
    return [leases[row["place"] - 1] for row in rows]
