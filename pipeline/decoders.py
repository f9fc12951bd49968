"""From fetched records to `Record`: JSON values, and the keys that order them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import orjson

from pipeline.records import Path, RawRecord, Record, TopicPartition

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
