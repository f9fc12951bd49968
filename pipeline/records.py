"""Records, and how values and ordering keys are found in them.

A `Record` wraps what the Kafka decoder yields and adds what the pipeline needs of it: the decoded
document and the ordering key. It is made once a record, so it is small, and what is rarely needed
(headers, the raw value) stays in the decoder's own object.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import attrs
import orjson


class TopicPartition(NamedTuple):
    """A partition of a topic. Equal to, and hashes like, kafka-python's own of the same fields."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class RawRecord(Protocol):
    """What a Kafka decoder yields for one message."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class RawBatch(Protocol):
    """Records of one partition that were fetched together, in offset order, not decoded yet.

    This is what waits in the consumer: as compact as it came from the broker, and one object.
    """

    def __len__(self) -> int:
        """How many records there are, or a few more where some lie before the start."""

    def records(self) -> Sequence[RawRecord]:
        """Decode them. Called once.

        Raises:
            PipelineError: the bytes can't be read.
        """


@attrs.define(eq=False)
class Record:
    """One Kafka message on its way to Postgres.

    Attributes:
        source: the partition that it came from.
        offset: its place there.
        raw: the decoder's object, which holds key, value, headers and timestamp.
        document: the value, decoded; None for a tombstone and where decoding failed.
        ordering: what orders it. One key: that key's value. Several: a tuple of (place, value).
        error: why it can't be applied, where that is known before Postgres sees it.
    """

    source: TopicPartition
    offset: int
    raw: RawRecord
    document: Any
    ordering: Hashable
    error: str | None = None

    @property
    def topic(self) -> str:
        return self.source.topic

    @property
    def partition(self) -> int:
        return self.source.partition

    @property
    def key(self) -> bytes | None:
        return self.raw.key

    @property
    def value(self) -> bytes | None:
        return self.raw.value

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        return self.raw.headers

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; by the producer's clock or the broker's, as the topic says."""
        return self.raw.timestamp

    def __str__(self) -> str:
        return f"{self.source} offset {self.offset}"


offset_of = attrgetter("offset")

Getter = Callable[[Record], Any]
"""A value of a record; None where it has none."""


@attrs.frozen
class Path:
    """Where a value is in a record.

    ``a.b`` is a path into the value; ``@key`` the message key as text and ``@key.a.b`` a path into
    a JSON one; ``@header:NAME`` the last header of that name; ``@timestamp``, ``@offset``,
    ``@partition`` and ``@topic`` are the message's own.
    """

    text: str
    base: str
    steps: tuple[str, ...]

    BASES = ("@key", "@header", "@timestamp", "@offset", "@partition", "@topic")

    @classmethod
    def parse(cls, text: str) -> Path:
        """Read a path.

        Raises:
            ValueError: it is none; the message says what is.
        """
        if not text.startswith("@"):
            return cls(text, "value", cls._steps(text, text))
        head, _, rest = text.partition(".")
        if text.startswith("@header:") and len(text) > len("@header:"):
            return cls(text, "@header", (text[len("@header:") :],))
        if head == "@key":
            return cls(text, "@key", cls._steps(rest, text) if rest or text != head else ())
        if text in cls.BASES and text != "@header":
            return cls(text, text, ())
        raise ValueError(
            f"{text!r} is no path: expected a path into the value (a.b), @key, @key.a.b, "
            "@header:NAME, @timestamp, @offset, @partition or @topic"
        )

    @staticmethod
    def _steps(path: str, text: str) -> tuple[str, ...]:
        steps = tuple(path.split("."))
        if not all(steps):
            raise ValueError(f"{text!r} is no path: a step between two dots is empty")
        return steps

    @property
    def is_text(self) -> bool:
        """Whether the value found is text whatever was meant (the key, a header)."""
        return self.base == "@header" or (self.base == "@key" and not self.steps)

    @property
    def in_value(self) -> bool:
        """Whether it reads the message's value, which a tombstone does not have."""
        return self.base == "value"

    def getter(self) -> Getter:
        """A function from a record to the value here; None where any step is missing."""
        return _GETTERS[self.base](self.steps)


def _walk(document: Any, steps: Iterable[str]) -> Any:
    for step in steps:
        if type(document) is not dict:
            return None
        document = document.get(step)
    return document


def _from_value(steps: tuple[str, ...]) -> Getter:
    if len(steps) == 1:
        (step,) = steps

        def one(record: Record) -> Any:
            document = record.document
            return document.get(step) if type(document) is dict else None

        return one
    return lambda record: _walk(record.document, steps)


def _from_key(steps: tuple[str, ...]) -> Getter:
    def text(record: Record) -> str | None:
        key = record.raw.key
        return None if key is None else key.decode("utf-8", "surrogateescape")

    def inside(record: Record) -> Any:
        key = record.raw.key
        if key is None:
            return None
        try:
            return _walk(orjson.loads(key), steps)
        except orjson.JSONDecodeError:
            return None

    return inside if steps else text


def _from_header(steps: tuple[str, ...]) -> Getter:
    (name,) = steps

    def header(record: Record) -> str | None:
        for found, value in reversed(record.raw.headers or ()):
            if found == name:
                return None if value is None else value.decode("utf-8", "surrogateescape")
        return None

    return header


def _timestamp(record: Record) -> datetime | None:
    millis = record.raw.timestamp
    return None if millis is None or millis < 0 else datetime.fromtimestamp(millis / 1000, UTC)


_GETTERS: dict[str, Callable[[tuple[str, ...]], Getter]] = {
    "value": _from_value,
    "@key": _from_key,
    "@header": _from_header,
    "@timestamp": lambda _: _timestamp,
    "@offset": lambda _: offset_of,
    "@partition": lambda _: attrgetter("source.partition"),
    "@topic": lambda _: attrgetter("source.topic"),
}


Decoder = Callable[[TopicPartition, Sequence[RawRecord]], list[Record]]
"""Raw records of one partition, in offset order → records, one each, in the same order."""


def json_decoder(keys: Sequence[Path]) -> Decoder:
    """A decoder of JSON values, ordered by the values at ``keys``.

    It raises nothing: a record that can't be decoded, or has no ordering key, carries its reason in
    `Record.error`. Such a record is filed under its message key, so that it keeps its place among
    its like.
    """
    if len(keys) == 1:
        single = keys[0]
        if single.in_value and len(single.steps) == 1:
            return _FieldDecoder(single.steps[0])
        return _PathsDecoder(_single_ordering(single))
    return _PathsDecoder(_several_orderings(keys))


class _FieldDecoder:
    """The usual case, one key that is a field of the value, without a call a record for it."""

    def __init__(self, field: str) -> None:
        self._field = field

    def __call__(self, source: TopicPartition, raws: Sequence[RawRecord]) -> list[Record]:
        loads, field = orjson.loads, self._field
        records = []
        for raw in raws:
            try:
                document = loads(raw.value)  # type: ignore[arg-type]  # None goes to the handler
                key = document[field]
                hash(key)
                if key is None:
                    raise KeyError(field)
            except (ValueError, KeyError, TypeError, IndexError):
                records.append(_misfit(source, raw, f"ordering key {field!r}"))
            else:
                records.append(Record(source, raw.offset, raw, document, key))
        return records


class _PathsDecoder:
    """Any paths: each record decoded, then asked for its ordering."""

    def __init__(self, ordering: Callable[[Record], Hashable]) -> None:
        self._ordering = ordering

    def __call__(self, source: TopicPartition, raws: Sequence[RawRecord]) -> list[Record]:
        records = []
        for raw in raws:
            record = Record(source, raw.offset, raw, None, None)
            try:
                if raw.value is not None:
                    record.document = orjson.loads(raw.value)
                record.ordering = self._ordering(record)
                hash(record.ordering)
                if record.ordering is None:
                    raise KeyError
            except (ValueError, KeyError, TypeError):
                record = _misfit(source, raw, "ordering key")
            records.append(record)
        return records


def _single_ordering(path: Path) -> Callable[[Record], Hashable]:
    return path.getter()


def _several_orderings(paths: Sequence[Path]) -> Callable[[Record], Hashable]:
    getters = list(enumerate(path.getter() for path in paths))

    def ordering(record: Record) -> Hashable:
        found = ((place, getter(record)) for place, getter in getters)
        return tuple(pair for pair in found if pair[1] is not None) or None

    return ordering


def _misfit(source: TopicPartition, raw: RawRecord, wanted: str) -> Record:
    """A record that has no ordering key: a tombstone, which is in order, or a defect, which is not."""
    ordering = (("@key", raw.key),)
    if raw.value is None:
        return Record(source, raw.offset, raw, None, ordering)
    try:
        document = orjson.loads(raw.value)
    except orjson.JSONDecodeError as error:
        return Record(source, raw.offset, raw, None, ordering, f"the value is not JSON: {error}")
    if type(document) is not dict:
        reason = f"the value is a JSON {type(document).__name__}, not an object"
    else:
        reason = f"the {wanted} is missing, null, or not a plain value"
    return Record(source, raw.offset, raw, document, ordering, reason)
