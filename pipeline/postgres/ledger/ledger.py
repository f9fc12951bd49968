"""The ledger of one shard, as its store uses it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from pipeline.contracts.lane import Lane
from pipeline.contracts.store import AppliedOffsets, Claim
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger import lanes
from pipeline.postgres.ledger.lease import (
    KEY,
    MARK,
    SERVER,
    Lease,
    TakenOver,
    fenced,
    guard,
    key_of,
)
from pipeline.postgres.ledger.multirange import multirange, parse_multirange
from pipeline.postgres.ledger.schema import migrate
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, offset_of

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

_VOIDED = f"""\
select l.place from unnest($1::text[], $2::uuid[], $3::int[])
    with ordinality l(stream, topic_id, partition, place)
left join pipeline.ownership o on (o.stream, o.topic_id, o.partition, o.writer)
    = (l.stream, l.topic_id, l.partition, 0)
where o.server is distinct from {SERVER}
order by l.place"""


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

    async def close_lane(self, lease: Lease, number: int, until: int) -> None:
        """See `Ledger.close_lane`."""
        await self._shard.run(partial(lanes.close_lane, lease=lease, number=number, until=until))

    async def forget_lanes(self, lease: Lease) -> list[int]:
        """See `Ledger.forget_lanes`."""
        return await self._shard.run(partial(lanes.forget_lanes, lease=lease))


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


async def fold(connection: Connection, watermarks: Sequence[tuple[Lease, int]]) -> None:
    """Fold the rows of partitions into one each, in one statement for all of them."""
    rows = [(*key_of(lease.claim), lease.epoch, watermark) for lease, watermark in watermarks]
    await connection.execute(_FOLD, *(list(column) for column in zip(*rows, strict=True)))


async def voided(connection: Connection, leases: Sequence[Lease]) -> list[Lease]:
    """Which of these leases another server gave."""
    keys = zip(*(key_of(lease.claim) for lease in leases), strict=True)
    rows = await connection.fetch(_VOIDED, *map(list, keys))
    return [leases[row["place"] - 1] for row in rows]
