"""Whether the newest records fit: their ordering keys, and their values the columns of the table.

No message holds a value: only where it is, and what kind of JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import trio

from pipeline.check.casts import Refused, ask_columns, json_kind
from pipeline.check.databases import STATEMENT_SECONDS, ShardFacts
from pipeline.check.newest import Newest
from pipeline.config.mistakes import Mistake, join
from pipeline.config.model import Config
from pipeline.postgres.connections.bridge import cross
from pipeline.postgres.sink.columns import SinkColumn, shape_of, sink_column
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path

ORDERING = "ordering key"
"""What the reason of a record without a usable ordering key speaks of."""


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
            found.extend(await cross(partial(ask_columns, config, shard, columns, read)))
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
