"""From fetched records to `Record`: JSON values, and the keys that order them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from pipeline.records.disposition import DeadLetterReason
from pipeline.records.path import Path
from pipeline.records.record import RawRecord, Record, TopicPartition, offset_of
from pipeline.records.rows import Shape, plain, row_parser, row_type

Decoder = Callable[[TopicPartition, Sequence[RawRecord]], list[Record]]
"""Raw records of one partition, in offset order → one record for each, in the same order."""

Parse = Callable[[bytes], Any]
"""JSON → what `Record.document` holds. Raises ValueError, or RecursionError."""

PLAIN = frozenset({str, int, float, bool})
"""The types of JSON that can order records."""


def json_decoder(
    keys: Sequence[Path], shape: Shape | None = None, *, reads: Sequence[Path] = ()
) -> Decoder:
    """Make a decoder of JSON values, ordered by the values at ``keys``.

    Without a shape, whole values are decoded; with one, what is at ``reads`` is decoded too.

    The decoder raises nothing: a record that can't be decoded, or has no ordering key, carries the
    reason in `Record.disposition`. Such a record keeps its place among those of its key as far as that can
    be read, which is so if it does not stand in the value; otherwise it is filed under its message key.
    """
    if shape is not None:
        shape = shape.including(path.steps[0] for path in (*keys, *reads) if path.in_value)
    parse: Parse = row_parser(shape) if shape is not None and shape.fields else orjson.loads
    if len(keys) > 1:
        return _PathsDecoder(parse, _several_orderings(keys), "ordering key")
    (single,) = keys
    getter = single.getter()
    wanted = f"ordering key {single.text!r}"
    general = _PathsDecoder(parse, lambda record: plain(getter(record)), wanted)
    if not single.in_value or len(single.steps) > 1:
        return general
    (field,) = single.steps
    key_of = itemgetter(field) if shape is None else attrgetter(row_type(shape).attributes[field])
    return _FieldDecoder(parse, key_of, general)


class _FieldDecoder:
    """Decode the usual case, one key that is a field of the value, without a loop in Python."""

    def __init__(self, parse: Parse, key_of: Callable[[Any], Hashable], general: Decoder) -> None:
        self._parse = parse
        self._key_of = key_of
        self._general = general

    def __call__(self, source: TopicPartition, raws: Sequence[RawRecord]) -> list[Record]:
        parse = self._parse
        try:
            documents = [parse(raw.value) for raw in raws]  # type: ignore[arg-type]  # None raises
            keys = list(map(self._key_of, documents))
        except (ValueError, TypeError, KeyError, RecursionError):
            return self._general(source, raws)
        if not PLAIN.issuperset(map(type, keys)):
            return self._general(source, raws)
        return list(map(Record, repeat(source), map(offset_of, raws), raws, documents, keys))


class _PathsDecoder:
    """Decode records with any keys: each value by itself, then its ordering."""

    def __init__(self, parse: Parse, ordering: Callable[[Record], Hashable], wanted: str) -> None:
        self._parse = parse
        self._ordering = ordering
        self._wanted = wanted

    def __call__(self, source: TopicPartition, raws: Sequence[RawRecord]) -> list[Record]:
        records = []
        for raw in raws:
            record = Record(source, raw.offset, raw, None, None)
            try:
                if raw.value is not None:
                    record.document = self._parse(raw.value)
                record.ordering = self._ordering(record)
                hash(record.ordering)
                if record.ordering is None:
                    raise KeyError(self._wanted)
            except (ValueError, KeyError, TypeError, RecursionError) as problem:
                record = _misfit(source, raw, self._wanted, problem)
                if record.disposition is not None:
                    record.ordering = self._ordering_without_value(record)
            records.append(record)
        return records

    def _ordering_without_value(self, record: Record) -> Hashable:
        """What orders a record whose value can't be read, or has no key."""
        bare = Record(record.source, record.offset, record.raw, None, None)
        try:
            found = self._ordering(bare)
            hash(found)
        except (ValueError, KeyError, TypeError):
            return record.ordering
        return record.ordering if found is None else found


def _several_orderings(paths: Sequence[Path]) -> Callable[[Record], Hashable]:
    getters = list(enumerate(path.getter() for path in paths))

    def ordering(record: Record) -> Hashable:
        found = ((place, plain(getter(record))) for place, getter in getters)
        return tuple(pair for pair in found if pair[1] is not None) or None

    return ordering


def _misfit(source: TopicPartition, raw: RawRecord, wanted: str, problem: Exception) -> Record:
    """Make the record of a message without an ordering key.

    A tombstone is to be applied all the same; anything else is a dead letter.
    """
    ordering = (("@key", raw.key),)
    if raw.value is None:
        return Record(source, raw.offset, raw, None, ordering)
    try:
        document = orjson.loads(raw.value)
    except orjson.JSONDecodeError as error:
        reason = f"the value is not JSON: {error}"
        return Record(source, raw.offset, raw, None, ordering, _undecodable(reason))
    if type(document) is not dict:
        reason = f"the value is a JSON {type(document).__name__}, not an object"
    elif isinstance(problem, ValueError | RecursionError):
        reason = f"the value can't be read: {problem}"
    else:
        reason = f"the {wanted} is missing, null, or not a plain value{_instead(wanted)}"
    return Record(source, raw.offset, raw, document, ordering, _undecodable(reason))


def _instead(wanted: str) -> str:
    """What to configure where topics have records without a message key."""
    return "; [records] key may name a field of the value instead" if "'@key'" in wanted else ""


def _undecodable(reason: str) -> DeadLetterReason:
    return DeadLetterReason(reason, "DecodeError")
