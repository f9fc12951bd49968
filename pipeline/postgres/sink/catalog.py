"""What the database says about the sink's table: columns, types, unique indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from pipeline.postgres.connections.bridge import Connection

_COLUMNS = """\
select a.attname as name, format_type(a.atttypid, -1) as type, t.typcategory::text as category,
       coalesce(b.typname, t.typname) as base, a.attnotnull as not_null,
       a.atthasdef or a.attidentity <> '' as has_default, a.attgenerated <> '' as generated
from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = t.typbasetype
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum"""
_UNIQUE = """\
select array(select a.attname::text from unnest(i.indkey::int2[]) k
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k) as columns
from pg_index i where i.indrelid = $1::text::regclass and i.indisunique and i.indisvalid
     and i.indpred is null and i.indexprs is null"""


@attrs.frozen
class Column:
    """A column as the catalog has it; ``base`` is the type's name, or that under a domain."""

    name: str
    type: str
    base: str
    category: str
    not_null: bool
    has_default: bool
    generated: bool


@attrs.frozen
class Table:
    name: str
    columns: Mapping[str, Column]
    unique: Sequence[frozenset[str]]


async def read_table(connection: Connection, name: str) -> Table | None:
    """The table of that (schema-qualified) name, or None where there is none. On asyncio.

    Raises:
        asyncpg.PostgresError: the name is no name, or reading the catalog failed.
    """
    if not await connection.fetchval("select to_regclass($1) is not null", name):
        return None
    columns = await connection.fetch(_COLUMNS, name)
    unique = await connection.fetch(_UNIQUE, name)
    return Table(
        name,
        {row["name"]: Column(**dict(row)) for row in columns},
        tuple(frozenset(row["columns"]) for row in unique),
    )
