"""The ledger: which offsets have been applied to a shard, kept in the shard itself.

Kafka's commit and Postgres's commit can't be one, so what was applied is written where the data is
written, in the same transaction. Two tables:

- ``pipeline.ownership``: a row for each writer of a partition, with an epoch that grows each time
  the partition changes hands. A writer's statement share-locks its row and demands its own epoch;
  a statement that comes too late finds another and writes nothing. Taking over means to raise the
  epochs, which waits for the transactions that hold the rows: then nothing of the old owner's is
  running, and nothing of it can start.
- ``pipeline.applied``: a row for each transaction, with the offsets it applied. Once a second the
  rows of a partition are folded into one, whose first range ends at the watermark or above: what
  was applied since the watermark was committed may join it. ``folded`` keeps the watermark itself.

Why ``for share`` and a row for each writer: a weaker lock would let the new owner's update pass the
old owner's running statement; one row for all writers would be locked by several transactions at
once, and Postgres writes a multixact for each such crowd (3,300 in a test of 4,000 transactions),
which vacuum has to clear away.

**In doubt.** A write whose answer was lost may be committed, may be running, or may still be on its
way to the server. Reading the ledger is not enough, for the write may land after the reading. So
`RESOLVE` raises the writer's own epoch first: that waits for a write that is running, and fences one
that is still to come. What the ledger says then stays true.

The topic's UUID is part of every key: a topic that was deleted and made again starts at offset 0.
Folding never touches ``ownership``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from pipeline.contracts.store import AppliedOffsets, Claim, Fenced
from pipeline.postgres.connections.bridge import Connection
from pipeline.records.ranges import ranges_of
from pipeline.records.record import Record, offset_of

VERSION = 1

MIGRATIONS = {
    1: """\
create schema if not exists pipeline;

create table if not exists pipeline.schema_version (
    version     int primary key,
    migrated_at timestamptz not null default now()
);

create table if not exists pipeline.ownership (
    stream      text not null,
    topic_id    uuid not null,
    partition   int not null,
    writer      int not null,
    epoch       bigint not null,
    owner       text not null,
    acquired_at timestamptz not null default now(),
    primary key (stream, topic_id, partition, writer)
);

create table if not exists pipeline.applied (
    stream      text not null,
    topic_id    uuid not null,
    partition   int not null,
    offsets     int8multirange not null,
    folded      bigint
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index if not exists applied_by_partition
    on pipeline.applied (stream, topic_id, partition);

insert into pipeline.schema_version (version) values (1) on conflict do nothing;
""",
}

_KEY = "stream = $1 and topic_id = $2 and partition = $3"

FENCE = f"select 1 from pipeline.ownership where {_KEY} and writer = $4 and epoch = $5 for share"
RECORD_APPLIED = (
    "insert into pipeline.applied (stream, topic_id, partition, offsets) "
    "select $1, $2, $3, $6::text::int8multirange"
)
MARK = (
    f"with fence as ({FENCE}), ledger as ({RECORD_APPLIED} from fence) select count(*) from fence"
)

_RAISE_EPOCHS = f"""\
with owned as (select writer from pipeline.ownership where {_KEY} order by writer for update)
update pipeline.ownership o set epoch = o.epoch + 1, owner = $4, acquired_at = now()
from owned where o.{_KEY} and o.writer = owned.writer"""
_ADD_WRITERS = """\
insert into pipeline.ownership (stream, topic_id, partition, writer, epoch, owner)
select $1, $2, $3, writer, 0, $4 from generate_series(0, $5::int - 1) writer
on conflict (stream, topic_id, partition, writer) do nothing"""
_EPOCHS = f"select epoch from pipeline.ownership where {_KEY} and writer < $4 order by writer"
_APPLIED = f"""\
select range_agg(r)::text as applied, max(folded) as folded
from pipeline.applied, unnest(offsets) r where {_KEY}"""

RESOLVE = f"""\
update pipeline.ownership set epoch = epoch + 1 where {_KEY} and writer = $4 and epoch = $5
returning epoch"""
_HAS = f"""\
select coalesce(range_agg(r) @> $4::text::int8multirange, false)
from pipeline.applied, unnest(offsets) r where {_KEY}"""

_FOLD = """\
with done as (
    select * from unnest($1::text[], $2::uuid[], $3::int[], $4::int8[])
        d(stream, topic_id, partition, watermark)
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


@attrs.frozen
class Lease:
    """A writer's right to write: it holds while the epoch in its ownership row is this one."""

    claim: Claim
    writer: int
    epoch: int

    def parameters(self) -> tuple[Any, ...]:
        """The fence's parameters, $1 to $5."""
        return (*key_of(self.claim), self.writer, self.epoch)


def key_of(claim: Claim) -> tuple[Any, ...]:
    return (claim.stream, claim.topic_id, claim.source.partition)


def multirange(offsets: Iterable[int]) -> str:
    """Offsets as the text of an int8multirange."""
    return "{" + ",".join(f"[{start},{end})" for start, end in ranges_of(offsets)) + "}"


def parse_multirange(text: str | None) -> list[tuple[int, int]]:
    """The ranges in an int8multirange's canonical text (``{[1,5),[7,9)}``)."""
    if not text or text == "{}":
        return []
    pairs = text.strip("{}")[1:-1].split("),[")
    return [(int(start), int(end)) for start, end in (pair.split(",") for pair in pairs)]


def ddl() -> str:
    """Everything that the ledger needs, for those who let nobody but themselves create it."""
    return "\n".join(MIGRATIONS[version] for version in sorted(MIGRATIONS))


async def migrate(connection: Connection) -> None:
    """Create or upgrade the schema; safe when several instances do it at once. On asyncio."""
    async with connection.transaction():
        await connection.execute(
            "select pg_advisory_xact_lock(hashtext('pipeline.schema_version'))"
        )
        current = 0
        if await connection.fetchval("select to_regclass('pipeline.schema_version') is not null"):
            current = await connection.fetchval("select max(version) from pipeline.schema_version")
        for version in range((current or 0) + 1, VERSION + 1):
            await connection.execute(MIGRATIONS[version])


async def take_over(
    connection: Connection, claim: Claim, owner: str, writers: int
) -> tuple[list[int], AppliedOffsets]:
    """Raise all epochs of a partition, then read what is applied: epochs by writer, and offsets."""
    key = key_of(claim)
    async with connection.transaction():
        # Rows first: two instances that take a partition over for the first time at once would find
        # none to raise, and both get the epoch of the rows that one of them adds.
        await connection.execute(_ADD_WRITERS, *key, owner, writers)
        await connection.execute(_RAISE_EPOCHS, *key, owner)
        epochs = [row["epoch"] for row in await connection.fetch(_EPOCHS, *key, writers)]
        row = await connection.fetchrow(_APPLIED, *key)
    assert row is not None, "an aggregate has one row"
    return epochs, AppliedOffsets.from_ranges(parse_multirange(row["applied"]), row["folded"])


async def resolve(connection: Connection, lease: Lease, offsets: Iterable[int]) -> tuple[int, bool]:
    """Settle a write in doubt: the writer's new epoch, and whether the write was committed.

    Raises:
        Fenced: the partition has another owner.
    """
    async with connection.transaction():
        epoch = await connection.fetchval(RESOLVE, *lease.parameters())
        if epoch is None:
            raise Fenced(f"{lease.claim.source}: writer {lease.writer} lost epoch {lease.epoch}")
        applied = await connection.fetchval(_HAS, *key_of(lease.claim), multirange(offsets))
    return epoch, applied


async def fold(connection: Connection, watermarks: Sequence[tuple[Claim, int]]) -> None:
    """Fold the rows of partitions into one each, in one statement for all of them."""
    rows = [(*key_of(claim), watermark) for claim, watermark in watermarks]
    await connection.execute(_FOLD, *(list(column) for column in zip(*rows, strict=True)))


def guard(lease: Lease, records: Sequence[Record]) -> tuple[Any, ...]:
    return (*lease.parameters(), multirange(map(offset_of, records)))


async def mark(connection: Connection, lease: Lease, records: Sequence[Record]) -> None:
    if not await connection.fetchval(MARK, *guard(lease, records)):
        raise fenced(lease)


def fenced(lease: Lease) -> Fenced:
    return Fenced(f"{lease.claim.source}: writer {lease.writer} lost epoch {lease.epoch}")
