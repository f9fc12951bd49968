"""Whether the newest records fit: their ordering keys, and their values the columns of the table.

Values are read as the sink reads them, and cast by Postgres itself, in a transaction that can only
read. No message holds a value: only where it is, and what kind of JSON.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import asyncpg
import attrs
import msgspec
import trio

from pipeline.check.databases import STATEMENT_SECONDS, ShardFacts, session_of
from pipeline.check.newest import Newest
from pipeline.config.mistakes import Mistake, join
from pipeline.config.model import Config
from pipeline.postgres.connections.bridge import Connection, Connections, cross
from pipeline.postgres.connections.errors import RowError
from pipeline.postgres.sink.columns import SinkColumn, quote, shape_of, sink_column
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from pipeline.records.record import Record
from pipeline.records.rows import Digits

ORDERING = "ordering key"
"""What the reason of a record without a usable ordering key speaks of."""


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


async def ask_fitness(
    config: Config, newest: Newest, shards: Sequence[ShardFacts]
) -> list[Refused]:
    """Ask each shard whether its columns take the newest values. Within the bridge; a checkpoint.

    What can't be asked in time is left out: the shard itself has been asked before.
    """
    records = [record for record in newest.records if type(record.document) is dict]
    found: list[Refused] = []
    seen: set[tuple[str, ...]] = set()
    for shard in shards:
        columns = _columns(config, shard)
        types = tuple(column.type for column in columns)
        if types in seen or not records:
            continue
        seen.add(types)
        decode = json_decoder([Path.parse(key) for key in config.records.keys], shape_of(columns))
        read = [decode(record.source, [record.raw])[0] for record in records]  # as the sink does
        with trio.move_on_after(2 * STATEMENT_SECONDS):
            found.extend(await cross(partial(_ask, config, shard, columns, read)))
    return found


def fitness_findings(
    config: Config, newest: Newest, refused: Iterable[Refused]
) -> Iterator[tuple[Mistake, bool]]:
    """Yield what does not fit, each with whether it is a mistake: it is one if nothing fits."""
    follows = "becomes a dead letter" if config.errors.dead_letter_topic else "stops the pipeline"
    yield from _undecodable(newest, follows)
    yield from _keyless(config, newest, follows)
    for each in refused:
        kinds = " or ".join(each.kinds)
        yield (
            Mistake(
                join("sink.columns", each.column),
                f"{each.count} of the {each.total} newest values at {each.path} can't be stored as "
                f"{each.type} (they are {kinds}; shard {each.shard}): each {follows}",
            ),
            each.count == each.total,
        )


def _undecodable(newest: Newest, follows: str) -> Iterator[tuple[Mistake, bool]]:
    reasons = Counter(
        record.disposition.reason.partition(":")[0]
        for record in newest.records
        if record.disposition is not None and ORDERING not in record.disposition.reason
    )
    valued = sum(record.raw.value is not None for record in newest.records)
    for reason, count in reasons.items():
        text = f"of {count} of the {valued} newest records {reason}: each {follows}"
        yield Mistake("records.format", text), count == valued


def _keyless(config: Config, newest: Newest, follows: str) -> Iterator[tuple[Mistake, bool]]:
    """Records whose ordering key is missing, null, a list or an object."""
    wrong = [
        record
        for record in newest.records
        if record.disposition is not None and ORDERING in record.disposition.reason
    ]
    if not wrong:
        return
    getters = [Path.parse(path).finder() for path in config.records.keys]
    kinds = Counter(_kind(get(record)) for record in wrong for get in getters)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    yield (
        Mistake(
            "records.key",
            f"{len(wrong)} of the {len(newest.records)} newest records have no usable key at "
            f"{' or '.join(config.records.keys)} ({told}), and each {follows}: name a path to a "
            "string or a number that every record has",
        ),
        len(wrong) == len(newest.records),
    )


def _kind(value: Any) -> str:
    if value is msgspec.UNSET:
        return "missing"
    return "null" if value is None else json_kind(value)


def json_kind(value: Any) -> str:
    """Return what sort of JSON a decoded value is, without showing it."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float | Digits):
        return "a number"
    kinds: dict[type[Any], str] = {str: "a string", dict: "an object", list: "a list"}
    return kinds.get(type(value), "JSON")


def _columns(config: Config, shard: ShardFacts) -> list[SinkColumn]:
    if shard.table is None:
        return []
    keys = config.sink.primary_key
    return [
        sink_column(
            column,
            shard.table.columns[column.name],
            key=column.name in keys,
            missing=config.sink.missing,
        )
        for column in config.sink.columns
        if column.name in shard.table.columns
    ]


async def _ask(
    config: Config, shard: ShardFacts, columns: Sequence[SinkColumn], records: Sequence[Record]
) -> list[Refused]:
    connections = Connections(shard.config.dsn, session_of(config))
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
