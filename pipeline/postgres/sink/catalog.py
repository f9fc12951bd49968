"""What the database says about the sink's table: columns, types, unique indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from pipeline.postgres.connections.bridge import Connection

_COLUMNS = """\
select a.attname as name, format_type(a.atttypid, -1) as type, t.typcategory::text as category,
       b.typname as base, a.attnotnull as not_null,
       a.atthasdef or a.attidentity <> '' as has_default, a.attgenerated <> '' as generated,
       e.typname as element, coalesce(e.typdelim::text, ',') as delimiter, b.typmod as modifier,
       coalesce(c.collisdeterministic, true) as deterministic
from pg_attribute a join pg_type t on t.oid = a.atttypid
     join lateral (  -- the type itself, or what a domain is made of, however many are between
         with recursive d as (
             select t.oid, t.typname, t.typtype, t.typbasetype, t.typelem, a.atttypmod as typmod,
                    t.typtypmod
             union all
             select n.oid, n.typname, n.typtype, n.typbasetype, n.typelem, d.typtypmod, n.typtypmod
             from d join pg_type n on n.oid = d.typbasetype where d.typtype = 'd')
         select * from d where typtype <> 'd') b on true
     left join pg_type e on t.typcategory = 'A' and e.oid = b.typelem
     left join pg_collation c on c.oid = a.attcollation
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum"""
_UNIQUE = """\
select array(select a.attname::text from unnest(i.indkey::int2[])
             with ordinality k(attnum, place)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.place <= i.indnkeyatts) as columns
from pg_index i where i.indrelid = $1::text::regclass and i.indisunique and i.indisvalid
     and i.indpred is null and i.indexprs is null"""


@attrs.frozen
class Column:
    """A column as the catalog has it.

    Attributes:
        base: the type's name, or that under a domain.
        element: the same of an array's elements; None: it is no array.
        delimiter: what stands between the elements.
        modifier: the type's modifier, which holds precision and scale; -1: it has none.
        deterministic: whether texts are equal only if their bytes are.
    """

    name: str
    type: str
    base: str
    category: str
    not_null: bool
    has_default: bool
    generated: bool
    element: str | None = None
    delimiter: str = ","
    modifier: int = -1
    deterministic: bool = True

    @property
    def precision_and_scale(self) -> tuple[int, int] | None:
        """Those of a ``numeric(p,s)``; None if it takes any number. Packed as in numeric.c."""
        if self.base != "numeric" or self.modifier < 4:
            return None
        packed = self.modifier - 4
        return packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024


@attrs.frozen
class Table:
    """A table: its name as configured, and as SQL writes it, with its schema and quoted."""

    name: str
    columns: Mapping[str, Column]
    unique: Sequence[frozenset[str]]
    sql: str = ""
    kind: str = "r"


_TABLE = """\
select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as sql, c.relkind::text as kind
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)"""


async def read_table(connection: Connection, name: str) -> Table | None:
    """The table of that (schema-qualified) name, or None where there is none. On asyncio.

    Raises:
        asyncpg.PostgresError: the name is no name, or reading the catalog failed.
    """
    table = await connection.fetchrow(_TABLE, name)
    if table is None:
        return None
    columns = await connection.fetch(_COLUMNS, name)
    unique = await connection.fetch(_UNIQUE, name)
    return Table(
        name,
        {row["name"]: Column(**dict(row)) for row in columns},
        tuple(frozenset(row["columns"]) for row in unique),
        table["sql"],
        table["kind"],
    )
