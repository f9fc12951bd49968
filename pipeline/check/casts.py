"""Which of the newest values a shard's columns refuse: read as the sink does, cast by Postgres. On asyncio.

The casts run in transactions that can only read, and nothing that is returned holds a value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import asyncpg
import attrs
import msgspec

from pipeline.check.databases import STATEMENT_SECONDS, ShardFacts, session_of
from pipeline.config.model import Config
from pipeline.postgres.connections.bridge import Connection, Connections
from pipeline.postgres.connections.errors import RowError
from pipeline.postgres.sink.columns import SinkColumn, quote
from pipeline.records.record import Record
from pipeline.records.rows import Digits


@attrs.frozen
class Refused:
    """How many values of a column are refused, of how many that there are, and their kinds."""

    column: str
    path: str
    type: str
    shard: str
    count: int
    total: int
    kinds: tuple[str, ...]


async def ask_columns(
    config: Config, shard: ShardFacts, columns: Sequence[SinkColumn], records: Sequence[Record]
) -> list[Refused]:
    connections = Connections.of(shard.config, session_of(config, shard.config))
    try:
        return await connections.lease(partial(_all, shard=shard, columns=columns, records=records))
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return []
    finally:
        await connections.close()


async def _all(
    connection: Connection,
    shard: ShardFacts,
    columns: Sequence[SinkColumn],
    records: Sequence[Record],
) -> list[Refused]:
    found = []
    for column in columns:
        there = [
            value for value in map(column.getter, records) if value not in (None, msgspec.UNSET)
        ]
        wrong = [value for value in there if _unread(column, value)]
        right = [value for value in there if value not in wrong] if wrong else there
        if not await _cast(connection, column, right):
            wrong += [value for value in right if not await _cast(connection, column, [value])]
        if wrong:
            kinds = tuple(sorted({json_kind(value) for value in wrong}))
            found.append(
                Refused(
                    column.name,
                    column.path.text,
                    column.type,
                    shard.config.name,
                    len(wrong),
                    len(there),
                    kinds,
                )
            )
    return found


def _unread(column: SinkColumn, value: Any) -> bool:
    """Whether the sink itself refuses a value, before Postgres sees it."""
    try:
        column.values(column.parsed([value])[0])
    except RowError:
        return True
    return False


async def _cast(connection: Connection, column: SinkColumn, found: Sequence[Any]) -> bool:
    """Whether Postgres casts all of these values to the column's type. On asyncio."""
    sql = (
        f"select count({column.selected()}) "
        f"from unnest($1::{column.array}[]) u({quote(column.name)})"
    )
    sent = list(column.values(column.parsed(found)[0]))
    try:
        async with connection.transaction(readonly=True):
            await asyncio.wait_for(connection.fetchval(sql, sent), STATEMENT_SECONDS)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
        return False
    return True


def json_kind(value: Any) -> str:
    """Return what sort of JSON a decoded value is, without showing it."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float | Digits):
        return "a number"
    kinds: dict[type[Any], str] = {str: "a string", dict: "an object", list: "a list"}
    return kinds.get(type(value), "JSON")
