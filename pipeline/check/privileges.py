"""What a role may do with the sink's table, column by column, and what the sink's statements need.

Postgres asks for a privilege on each column that a statement names. A grant on the table covers all of
its columns; where there is none, grants on single columns suffice, if they are those that are needed:

- ``insert`` on every column that is written; not in mode "update", which inserts nothing;
- ``update`` on those that are not of the primary key; not in mode "insert";
- ``select`` on the primary key, by which rows are found, and on what is merged with the stored value or
  keeps it where a record lacks the field;
- ``delete`` on the table, if tombstones delete: there is none on columns.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.config.model import ColumnConfig, SinkConfig
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.sink.catalog import Table
from pipeline.postgres.sink.columns import quote

_REFUSED = """\
select w.privilege, w.name,
       w.name is null or not has_any_column_privilege($1::text::regclass, w.privilege) as entirely
from unnest($2::text[], $3::text[]) w(privilege, name)
where case when w.name is null then not has_table_privilege($1::text::regclass, w.privilege)
           else not has_column_privilege($1::text::regclass, w.name, w.privilege) end"""


def needed_privileges(sink: SinkConfig) -> dict[str, list[str]]:
    """Return privilege → the columns that it is needed on; no columns: on the table itself."""
    key = list(sink.primary_key)
    written = [column.name for column in sink.columns]
    rest = [column for column in sink.columns if column.name not in key]
    needed = {"select": key}
    if sink.mode != "insert":
        needed["select"] = key + [column.name for column in rest if _reads_stored(sink, column)]
    if sink.mode != "update":
        needed["insert"] = written
    if sink.mode != "insert":
        needed["update"] = [column.name for column in rest]
    found = {privilege: columns for privilege, columns in needed.items() if columns}
    if sink.tombstone == "delete":
        found["delete"] = []
    return found


def _reads_stored(sink: SinkConfig, column: ColumnConfig) -> bool:
    """Whether the stored value is looked at: to merge it, or to keep it where there is no newer one."""
    return column.merge != "last" or (column.missing or sink.missing) == "keep"


async def missing_privileges(connection: Connection, sink: SinkConfig, table: Table) -> list[str]:
    """Return what the role lacks, as GRANT takes it: ``select``, ``update (total, seen)``. On asyncio.

    A privilege that the role has on no column at all is named without columns.
    """
    wanted: list[tuple[str, str | None]] = []
    for privilege, columns in needed_privileges(sink).items():
        there = [name for name in columns if name in table.columns]  # others are told by themselves
        wanted += [(privilege, name) for name in there]
        if not columns:
            wanted.append((privilege, None))
    refused: dict[str, list[str]] = {}
    privileges, names = [each[0] for each in wanted], [each[1] for each in wanted]
    for row in await connection.fetch(_REFUSED, table.sql, privileges, names):
        columns = refused.setdefault(row["privilege"], [])
        if not row["entirely"]:
            columns.append(row["name"])
    return _as_granted(refused)


def _as_granted(refused: Mapping[str, list[str]]) -> list[str]:
    return [
        f"{privilege} ({', '.join(map(quote, columns))})" if columns else privilege
        for privilege, columns in refused.items()
    ]
