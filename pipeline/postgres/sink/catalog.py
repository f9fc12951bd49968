"""What the database says about the sink's table: columns, types, unique indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from pipeline.postgres.connections.bridge import Connection

DEFAULT = """\
case when a.attidentity <> '' then format('nextval(%L::regclass)',
              pg_get_serial_sequence(a.attrelid::regclass::text, a.attname))
     else coalesce(pg_get_expr(f.adbin, f.adrelid), pg_get_expr(t.typdefaultbin, 0), 'null') end"""
"""SQL of the SQL of a column's default, from ``pg_attribute a`` with what `WITH_DEFAULT` joins to it."""

WITH_DEFAULT = """ join pg_type t on t.oid = a.atttypid
left join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum"""

IDENTITY = """\
concat_ws(' ', a.atttypid, a.atttypmod, a.attcollation, a.attidentity::text || a.attgenerated::text)"""
"""SQL of what makes a column another one to the sink's statements: type, collation, who fills it."""


def _base(oid: str, modifier: str = "-1") -> str:
    """SQL of a type itself, or what a domain is made of, however many are between."""
    return f"""(
         with recursive d as (
             select t.oid, t.typname, t.typtype, t.typbasetype, t.typelem, t.typdelim, t.typtypmod,
                    {modifier} as typmod
             from pg_type t where t.oid = {oid}
             union all
             select n.oid, n.typname, n.typtype, n.typbasetype, n.typelem, n.typdelim, n.typtypmod,
                    d.typtypmod
             from d join pg_type n on n.oid = d.typbasetype where d.typtype = 'd')
         select * from d where typtype <> 'd')"""


_COLUMNS = f"""\
select a.attname as name, format_type(a.atttypid, -1) as type, t.typcategory::text as category,
       b.typname as base, a.attnotnull as not_null,
       a.atthasdef or a.attidentity <> '' as has_default, a.attgenerated <> '' as generated,
       e.typname as element, coalesce(e.typdelim::text, ',') as delimiter, b.typmod as modifier,
       coalesce(c.collisdeterministic, true) as deterministic, format_type(b.oid, -1) as plain_type,
       {IDENTITY} as identity, a.attidentity = 'a' as always_identity, {DEFAULT} as default,
       s.typname as bound
from pg_attribute a{WITH_DEFAULT}
     join lateral {_base("a.atttypid", "a.atttypmod")} b on true
     left join lateral {_base("b.typelem")} e on t.typcategory = 'A'
     left join pg_range r on coalesce(e.oid, b.oid) in (r.rngtypid, r.rngmultitypid)
     left join lateral {_base("r.rngsubtype")} s on true
     left join pg_collation c on c.oid = a.attcollation
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum"""
_UNIQUE = """\
select array(select a.attname::text from unnest(i.indkey::int2[])
             with ordinality k(attnum, place)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.place <= i.indnkeyatts) as columns, i.indimmediate as immediate
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
        plain_type: the type as SQL writes it, or that under a domain.
        identity: changes if its type does, its collation, or that Postgres fills it (`IDENTITY`).
        always_identity: whether it is ``generated always as identity``.
        default: SQL of the value that a new row gets if none is given.
        bound: of a range or multirange, or an array of them, the type's name of what it is a range of.
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
    plain_type: str = ""
    identity: str = ""
    always_identity: bool = False
    default: str = "null"
    bound: str | None = None

    @property
    def precision_and_scale(self) -> tuple[int, int] | None:
        """Those of a ``numeric(p,s)``; None if it takes any number. Packed as in numeric.c."""
        if self.base != "numeric" or self.modifier < 4:
            return None
        packed = self.modifier - 4
        return packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024


@attrs.frozen
class Table:
    """A table as the catalog has it.

    Attributes:
        name: as configured.
        unique: the columns of each of its unique indexes.
        unlogged: whether it, or a partition of it, is not in the write-ahead log.
        deferrable: those of them that Postgres may check later than at once.
        sql: its name with its schema, quoted where SQL needs it.
        kind: a table, a view, …, as ``pg_class.relkind`` has it.
        mergeable: whether it can be the target of MERGE.
    """

    name: str
    columns: Mapping[str, Column]
    unique: Sequence[frozenset[str]]
    sql: str = ""
    kind: str = "r"
    mergeable: bool = True
    deferrable: frozenset[frozenset[str]] = frozenset()
    unlogged: bool = False


_TABLE = """\
select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as sql, c.relkind::text as kind,
       (c.relkind in ('r', 'p') and not c.relhasrules)
           or (c.relkind = 'v' and current_setting('server_version_num')::int >= 170000) as mergeable,
       exists (select from pg_class l where l.relpersistence = 'u' and l.oid in (
           select c.oid union all select relid from pg_partition_tree(c.oid))) as unlogged
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)"""


_NAMES = """\
select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = any('{r,p,v,f}') and n.nspname <> 'pg_catalog' and n.nspname <> 'information_schema'
order by 1 limit 10000"""


async def table_names(connection: Connection) -> list[str]:
    """The tables that there are, with their schemas. On asyncio."""
    return [row[0] for row in await connection.fetch(_NAMES)]


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
    at_once = {frozenset(row["columns"]) for row in unique if row["immediate"]}
    found = tuple(frozenset(row["columns"]) for row in unique)
    return Table(
        name,
        {row["name"]: Column(**dict(row)) for row in columns},
        found,
        table["sql"],
        table["kind"],
        table["mergeable"],
        frozenset(found) - at_once,
        table["unlogged"],
    )
