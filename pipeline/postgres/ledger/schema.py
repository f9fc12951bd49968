"""The ledger's tables: their migrations, the DDL, and the privileges that the pipeline needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.errors import UsageError
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger import keys

VERSION = 3

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
    2: """\
alter table pipeline.ownership add column if not exists server text;

alter table pipeline.applied replica identity full;

insert into pipeline.schema_version (version) values (2) on conflict do nothing;
""",
    3: """\
alter table pipeline.ownership
    add column if not exists taken_at timestamptz,
    add column if not exists last_lane int;

create table if not exists pipeline.lanes (
    stream       text not null,
    topic_id     uuid not null,
    partition    int not null,
    lane         int not null,
    rule         json not null,
    reason       text not null,
    from_offset  bigint not null,
    until_offset bigint,
    left_out     int8multirange not null default '{}',
    hold         text not null default '',
    opened_at    timestamptz not null default now(),
    failed_offset bigint,
    failed_at    timestamptz,
    failed_why   text,
    primary key (stream, topic_id, partition, lane)
);

create or replace function pipeline.refuse_who_knows_no_lanes() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (
        select from pipeline.lanes l where (l.stream, l.topic_id, l.partition)
            = (new.stream, new.topic_id, new.partition)
    ) then
        raise exception 'partition % of % has lanes, and this version of the pipeline knows none',
            new.partition, new.stream using errcode = '55000',
            hint = 'Run a version whose ledger has schema version 3, or let it close the lanes first.';
    end if;
    return new;
end $$;

create or replace trigger refuse_who_knows_no_lanes
    before update of acquired_at on pipeline.ownership
    for each row execute function pipeline.refuse_who_knows_no_lanes();

insert into pipeline.schema_version (version) values (3) on conflict do nothing;
""",
}
"""By version. Each can run while an instance of the version before works: it ignores what is new.

Version 2: which server a lease was given by (see `lease.SERVER`), and a replica identity, without which
a publication for all tables would refuse the deletes that folding makes.

Version 3: lanes. A version that knows none would apply newer records of a key before the lane's, and it
says when it takes a partition over in ``acquired_at``; so that is refused while there are lanes, and who
knows them says it in ``taken_at``. A rule is json, not jsonb, which has no place for U+0000. The function
reads the lanes as its owner, since who is refused may have no right to.
"""

EXTRAS: Mapping[str, str] = {
    "refused": """\
create table if not exists pipeline.refused (
    stream        text not null,
    topic_id      uuid not null,
    partition     int not null,
    record_offset bigint not null,
    reason        text not null,
    error         text not null,
    sqlstate      text,
    refused_at    timestamptz not null default now(),
    primary key (stream, topic_id, partition, record_offset)
);

create index if not exists refused_by_age on pipeline.refused (stream, refused_at);
""",
    "idempotency_keys": keys.TABLE,
}
"""Tables that only some configurations need, by name. None has a version: each is made where it is missing.

``refused`` has the reason of each dead letter, for receipts; ``idempotency_keys`` see `keys`.
"""

PRIVILEGES: Mapping[str, str] = {
    "schema_version": "select",
    "ownership": "select,insert,update,delete",
    "applied": "select,insert,delete",
    "lanes": "select,insert,update,delete",
}
"""The ledger's tables, and the privileges that the pipeline uses on each."""

EXTRA_PRIVILEGES: Mapping[str, str] = {
    "refused": "select,insert,update,delete",
    "idempotency_keys": keys.PRIVILEGES,
}
"""The same of `EXTRAS`."""


_STRANGERS = """\
select format('pipeline.%s', name) as name from unnest($1::text[]) name
where to_regclass(format('pipeline.%I', name)) is not null order by 1"""


def strangers_problem(tables: Iterable[str]) -> str:
    """What to do about tables that have the ledger's names, where there is no ledger."""
    return (
        f"{', '.join(tables)} is not the ledger's (there is no pipeline.schema_version beside it): "
        "rename it, for the ledger needs that name, or write to another database"
    )


def ddl() -> str:
    """Everything that the ledger may need, for those who let nobody but themselves create it."""
    return "\n".join([*(MIGRATIONS[version] for version in sorted(MIGRATIONS)), *EXTRAS.values()])


async def migrate(connection: Connection, extras: Iterable[str] = ()) -> None:
    """Create or upgrade the schema; safe when several instances do it at once. On asyncio.

    Args:
        extras: the names of those of `EXTRAS` that are needed.

    Raises:
        UsageError: tables with the ledger's names are there that are none of the ledger's.
    """
    async with connection.transaction():
        await connection.execute(
            "select pg_advisory_xact_lock(hashtext('pipeline.schema_version'))"
        )
        current = 0
        if await connection.fetchval("select to_regclass('pipeline.schema_version') is not null"):
            current = await connection.fetchval("select max(version) from pipeline.schema_version")
        elif strangers := await connection.fetch(_STRANGERS, list(PRIVILEGES)):
            raise UsageError(strangers_problem([row["name"] for row in strangers]))
        for version in range((current or 0) + 1, VERSION + 1):
            await connection.execute(MIGRATIONS[version])
        for name in extras:
            # Postgres asks for the right to create before it looks whether the table is there.
            if await connection.fetchval("select to_regclass($1) is null", f"pipeline.{name}"):
                await connection.execute(EXTRAS[name])


async def exists(connection: Connection) -> bool:
    """Whether the database has a ledger. On asyncio."""
    found: bool = await connection.fetchval("select to_regclass('pipeline.ownership') is not null")
    return found


async def version_of(connection: Connection) -> int | None:
    """The version of the ledger's schema; None if the table holds none. On asyncio."""
    version: int | None = await connection.fetchval(
        "select max(version) from pipeline.schema_version"
    )
    return version
