"""The newest records of each partition, and whether they have what the configuration reads of them.

A misspelt path is valid, and gives null in every row. Only the records themselves can show that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import attrs
import trio
from kafka.errors import KafkaError

from pipeline.check.brokers import patience
from pipeline.config.mistakes import Mistake, did_you_mean, join
from pipeline.config.model import Config
from pipeline.contracts.kafka import Position
from pipeline.errors import PipelineError
from pipeline.operate.cluster import Cluster, open_cluster
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from pipeline.records.record import Record, TopicPartition

NEWEST = 20
"""How many offsets below its end are read of each partition; some of them may hold no record."""
DEEPEST = 4
"""How many steps into the values paths are suggested from."""


@attrs.define
class Newest:
    """The newest records.

    Attributes:
        records: as they are decoded: ``document`` is None for a tombstone and for what is not JSON.
        partitions: how many partitions each topic has.
        positions: where each partition's records and the group are.
        topic_ids: topic → its UUID.
        problem: why they could not be read.
    """

    records: list[Record] = attrs.field(factory=list)
    partitions: dict[str, int] = attrs.field(factory=dict)
    positions: dict[TopicPartition, Position] = attrs.field(factory=dict)
    topic_ids: dict[str, UUID] = attrs.field(factory=dict)
    problem: str | None = None


async def ask_newest(config: Config) -> Newest:
    """Read the newest records, within `patience`.

    A checkpoint. If the time is over, or it is cancelled, the thread that reads is left behind.
    """
    with trio.move_on_after(patience(config)):
        try:
            return await trio.to_thread.run_sync(partial(_read, config), abandon_on_cancel=True)
        except (PipelineError, KafkaError, OSError, ValueError) as error:
            return Newest(problem=str(error))
    return Newest(problem=f"no answer within {patience(config):.0f} s")


def _read(config: Config) -> Newest:
    with open_cluster(config) as cluster:
        topics = config.kafka.topics
        found = Newest(
            partitions={topic: len(cluster.partitions(topic)) for topic in topics},
            positions=_positions(config, cluster),
            topic_ids={topic: cluster.topic_id(topic) for topic in topics},
        )
        decode = json_decoder([Path.parse(key) for key in config.records.keys])
        spans = {
            source: (max(position.start, position.end - NEWEST), position.end)
            for source, position in found.positions.items()
        }
        for source, raws in cluster.read(spans):
            found.records.extend(decode(source, raws))
    return found


def _positions(config: Config, cluster: Cluster) -> dict[TopicPartition, Position]:
    sources = [source for topic in config.kafka.topics for source in cluster.partitions(topic)]
    committed = cluster.committed(sources)
    policy = config.kafka.options.get("auto_offset_reset", "earliest")
    found = {}
    for source, (start, end) in cluster.bounds(sources).items():
        given = committed.get(source)
        reset = {"earliest": start, "latest": end}.get(policy)
        offset, metadata = (None, "") if given is None else (given.offset, given.metadata)
        found[source] = Position(offset, metadata, start, end, reset)
    return found


def missing_paths(config: Config, newest: Newest) -> Iterator[tuple[Mistake, bool]]:
    """Yield the paths that none of the newest records has, each with whether that is a mistake.

    It is one of an ordering key, without which nothing can be applied, and of the tenant. Any other
    may be a field that is rarely there, however alike the name of another is: a warning.
    """
    live = [record for record in newest.records if type(record.document) is dict]
    if not live:
        return
    known = sorted({path for record in live for path in _paths_in(record.document)})
    for key, text in _configured(config):
        path = Path.parse(text)
        records: Sequence[Record] = live if path.in_value else newest.records
        if any(_has(path, record) for record in records):
            continue
        hint = did_you_mean(text.removeprefix("$."), known) if path.in_value else ""
        orders = key == "records.key"
        why = f": nothing could be applied{_instead(text)}" if orders else ""
        none = "the newest record does not have"
        if len(records) > 1:
            none = f"none of the {len(records)} newest records has"
        yield (
            Mistake(key, f"{none} {text}{hint}{why}"),
            key.startswith("records."),
        )


def _instead(key: str) -> str:
    """What to write where records have no message key, which is what orders them by default."""
    return "; name a field of the value that every record has" if key == "@key" else ""


def _configured(config: Config) -> Iterator[tuple[str, str]]:
    """Yield every path of the configuration that reads a record, with its key."""
    yield from (("records.key", path) for path in config.records.keys)
    if config.records.tenant is not None:
        yield "records.tenant", config.records.tenant
    for column in config.sink.columns:
        yield join("sink.columns", column.name), column.source


def _has(path: Path, record: Record) -> bool:
    """Return whether a path leads somewhere in a record, be it to null."""
    if not path.in_value:
        return path.getter()(record) is not None
    document: Any = record.document
    for step in path.steps:
        if type(document) is not dict or step not in document:
            return False
        document = document[step]
    return True


def _paths_in(document: Mapping[str, Any], before: str = "", depth: int = 1) -> Iterator[str]:
    for name, value in document.items():
        yield f"{before}{name}"
        if type(value) is dict and depth < DEEPEST:
            yield from _paths_in(value, f"{before}{name}.", depth + 1)
