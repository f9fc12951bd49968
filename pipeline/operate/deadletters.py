"""Dead letters as they are found on their topic, and which of them wait for a decision.

The pipeline writes two kinds of records to the topic: dead letters (`pipeline.kafka.letter_forms`
says what their headers are), and markers, which name dead letters of their own partition that were
replayed or dropped. Reading a partition from its start gives both, so a dead letter waits if no marker
names it. Why markers, and not a consumer group's offsets:
``docs/decisions/0009-dead-letter-markers.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import attrs
import orjson

from pipeline.errors import PipelineError
from pipeline.kafka.letter_forms import CONNECT, NULLS, OMITTED, OURS, TIMESTAMP
from pipeline.operate.cluster import Cluster
from pipeline.records.ranges import ranges_of
from pipeline.records.record import RawRecord, TopicPartition

REPLAYED, DROPPED = "replayed", "dropped"
MARKER = OURS + "marker"
REPLAYED_FROM = OURS + "replayed-from"

Headers = Sequence[tuple[str, bytes | None]]


@attrs.frozen
class DeadLetter:
    """One dead letter: where it is, where it came from, and why it could not be applied.

    Attributes:
        place: the dead letter topic's partition that holds it.
        offset: its offset there.
        source: topic and partition of the original record.
        source_offset: its offset there.
        key, value, timestamp: the original record's, with nulls restored.
        headers: the original record's, and those that were added.
        error: the name of the exception's class.
        reason: a sentence.
        sqlstate: five characters; empty if the record never reached Postgres.
        group: the consumer group that set it aside.
        attempts: how often it was tried, as text.
        failed_at: when it was set aside; the record's own time if no header says so.
    """

    place: TopicPartition
    offset: int
    source: TopicPartition
    source_offset: int
    key: bytes | None
    value: bytes | None = attrs.field(repr=False)
    timestamp: int
    headers: Headers = attrs.field(repr=False)
    error: str
    reason: str
    sqlstate: str
    group: str
    attempts: str
    failed_at: datetime

    @property
    def record(self) -> tuple[Any, ...]:
        """What two dead letters of one record share: after a crash a record may be set aside twice."""
        return (self.source, self.source_offset, self.timestamp, self.key, self.value)

    @property
    def own_headers(self) -> list[tuple[str, bytes | None]]:
        """The headers that the original record had."""
        return [(k, v) for k, v in self.headers if not k.startswith((CONNECT, OURS))]

    @property
    def omitted(self) -> bool:
        """Whether it is without parts of the record (its value first), since the topic refused them."""
        return any(name == OMITTED for name, _ in self.headers)

    def __str__(self) -> str:
        return f"{self.place}@{self.offset}"


def parse(place: TopicPartition, raw: RawRecord) -> DeadLetter | None:
    """Return the dead letter that a record is; None if its headers don't say where it came from."""
    texts = {name: (value or b"").decode("utf-8", "replace") for name, value in raw.headers or ()}
    topic, partition, offset = (
        texts.get(CONNECT + name, "") for name in ("topic", "partition", "offset")
    )
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        return None
    nulls = _nulls(texts.get(NULLS, ""))
    return DeadLetter(
        place=place,
        offset=raw.offset,
        source=TopicPartition(topic, int(partition)),
        source_offset=int(offset),
        key=None if "key" in nulls else raw.key,
        value=None if "value" in nulls else raw.value,
        timestamp=_whole(texts.get(TIMESTAMP, ""), raw.timestamp),
        headers=[
            (name, None if f"header:{n}:{name}" in nulls else value)
            for n, (name, value) in enumerate(raw.headers)
        ],
        error=texts.get(CONNECT + "exception.class.name", ""),
        reason=texts.get(CONNECT + "exception.message", ""),
        sqlstate=texts.get(OURS + "sqlstate", ""),
        group=texts.get(OURS + "group", texts.get(CONNECT + "connector.name", "")),
        attempts=texts.get(OURS + "attempts", ""),
        failed_at=_moment(texts.get(OURS + "failed-at", ""), raw.timestamp),
    )


def _nulls(text: str) -> set[str]:
    """Return what was null in the original record: see `pipeline.kafka.letter_forms`."""
    try:
        return {name for name in orjson.loads(text) if isinstance(name, str)}
    except (ValueError, TypeError):
        return set()


def _whole(text: str, otherwise: int) -> int:
    try:
        return int(text)
    except ValueError:
        return otherwise


def _moment(text: str, millis: int) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return moment_of(millis) or datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def moment_of(millis: int) -> datetime | None:
    """Return the moment of a record's timestamp; None if it has none, or one beyond any calendar.

    Such a timestamp is usually in microseconds: Kafka takes whatever a producer sends.
    """
    try:
        return datetime.fromtimestamp(millis / 1000, UTC) if millis >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None


@attrs.frozen
class Filter:
    """Which dead letters are meant: those that match all criteria that are given.

    Attributes:
        error: the start of an SQLSTATE, or the name of an exception's class.
        key: the message key, as text.
        since, until: when the record was set aside: from ``since`` until before ``until``.
        offsets: (partition, offset) on the dead letter topic; a partition of None stands for any.
    """

    error: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    offsets: tuple[tuple[int | None, int], ...] = ()

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter is meant."""
        return (
            (self.error is None or self._is_error(letter, self.error))
            and (self.key is None or (letter.key or b"") == self.key.encode())
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (not self.offsets or any(self._is_at(letter, *place) for place in self.offsets))
        )

    @staticmethod
    def _is_error(letter: DeadLetter, error: str) -> bool:
        if letter.error.rpartition(".")[2] == error.rpartition(".")[2]:
            return True
        return bool(letter.sqlstate) and letter.sqlstate.startswith(error.upper())

    @staticmethod
    def _is_at(letter: DeadLetter, partition: int | None, offset: int) -> bool:
        return offset == letter.offset and partition in (None, letter.place.partition)


@attrs.define
class Found:
    """What was found on the dead letter topic.

    Attributes:
        letters: the dead letters of this group that are meant, by source partition, in the order
            that they had there.
        handled: (partition, offset) → `REPLAYED` or `DROPPED`.
        foreign: how many records belong to other groups, or are not dead letters.
    """

    letters: list[DeadLetter] = attrs.field(factory=list)
    handled: dict[tuple[int, int], str] = attrs.field(factory=dict)
    foreign: int = 0

    def state(self, letter: DeadLetter) -> str | None:
        """Return `REPLAYED` or `DROPPED`; None if the dead letter waits."""
        return self.handled.get((letter.place.partition, letter.offset))

    def demand(self, places: Sequence[tuple[int | None, int]], group: str) -> None:
        """Ask for a dead letter at each (partition, offset); without a partition any will do.

        Raises:
            PipelineError: there is none at some of them.
        """
        known = {(letter.place.partition, letter.offset) for letter in self.letters}
        known_offsets = {offset for _, offset in known}
        absent = [
            str(offset) if partition is None else f"{partition}:{offset}"
            for partition, offset in places
            if (
                offset not in known_offsets
                if partition is None
                else (partition, offset) not in known
            )
        ]
        if absent:
            raise PipelineError(
                f"no dead letter of group {group} that matches is at {', '.join(absent)}: "
                "pipeline dlq list --all shows where they are"
            )

    def waiting(self) -> list[DeadLetter]:
        """Return the dead letters that were neither replayed nor dropped."""
        return [letter for letter in self.letters if self.state(letter) is None]


def find(cluster: Cluster, topic: str, meant: Filter) -> Found:
    """Read the dead letter topic from its start to its present end.

    Blocks, and holds all that match in memory, with their values.

    Raises:
        PipelineError: there is no such topic, or Kafka sends nothing.
    """
    found = Found()
    group = cluster.kafka.group_id
    for place, raws in cluster.read(cluster.bounds(cluster.partitions(topic))):
        for raw in raws:
            if any(name == MARKER for name, _ in raw.headers or ()):
                found.handled.update(_marked(place, raw, group))
                continue
            letter = parse(place, raw)
            if letter is None or letter.group not in ("", group):
                found.foreign += 1
            elif meant.matches(letter):
                found.letters.append(letter)
    found.letters.sort(key=_order)
    return found


def _order(letter: DeadLetter) -> tuple[Any, ...]:
    """Sort by source partition and offset: the order of each key.

    The dead letter topic's own offsets don't give that order if it has several partitions.
    """
    return (letter.source, letter.source_offset, letter.place, letter.offset)


def marker(group: str, what: str, letters: Iterable[DeadLetter]) -> dict[str, Any]:
    """Return key, value and headers of a marker for dead letters of one partition."""
    body = {"group": group, what: ranges_of({letter.offset for letter in letters})}
    return {
        "key": f"{MARKER}:{uuid4()}".encode(),  # unique: compaction must not merge two
        "value": orjson.dumps(body),
        "headers": [(MARKER, what.encode()), (OURS + "group", group.encode())],
    }


def _marked(place: TopicPartition, raw: RawRecord, group: str) -> Mapping[tuple[int, int], str]:
    """Return what a marker says; nothing if it is another group's or can't be read."""
    try:
        body = orjson.loads(raw.value or b"")
        if body["group"] != group:
            return {}
        return {
            (place.partition, offset): what
            for what in (REPLAYED, DROPPED)
            for start, end in body.get(what, ())
            for offset in range(start, min(end, raw.offset))
        }
    except (ValueError, TypeError, KeyError):
        return {}
