"""A record batch that the compiled decoder refuses, read record by record.

Kafka demands that a header's name is UTF-8, but no broker and few clients look: producers in C, Go or
PHP write what they like. The compiled decoder raises on the first such name, and the whole batch with it.
Here names are read as they are, with surrogates in the place of bytes that are no UTF-8 (PEP 383), and
what can't be read as a record at all is handed on as the value of one, which becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from kafka.record.default_records import DefaultRecordBatch

from pipeline.records.record import RawRecord

Headers = Sequence[tuple[str, bytes | None]]


@attrs.frozen
class OddRecord:
    """A `RawRecord` that was read here."""

    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()


def records_one_by_one(data: bytes) -> Sequence[RawRecord]:
    """Read the records of a batch of version 2, whatever is wrong with single ones.

    Args:
        data: the batch as it was fetched.

    Raises:
        Exception: its codec's, if it can't be decompressed; IndexError, ValueError if the records'
            lengths are wrong. None of this comes from a broker, which looks at both.
    """
    batch = DefaultRecordBatch(data)
    batch._maybe_uncompress()
    reader = _Reader(bytes(batch._buffer), batch._pos)
    found = []
    for number in range(batch.records_count):
        body = reader.take(reader.varint())
        try:
            found.append(_record(batch, body))
        except (IndexError, ValueError):
            # It begins with a byte of attributes, so it is no JSON, whatever follows.
            offset = batch.base_offset + number
            found.append(OddRecord(offset, batch.first_timestamp, value=bytes(body)))
    return found


def _record(batch: DefaultRecordBatch, body: bytes) -> OddRecord:
    reader = _Reader(body, 1)  # the attributes of a record are not used
    after, offset = reader.varint(), reader.varint()
    appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    timestamp = batch.max_timestamp if appended else batch.first_timestamp + after
    key, value = reader.field(), reader.field()
    headers = [(_name(reader), reader.field()) for _ in range(reader.varint())]
    return OddRecord(batch.base_offset + offset, timestamp, key, value, headers)


def _name(reader: _Reader) -> str:
    return reader.take(reader.varint()).decode(errors="surrogateescape")


class _Reader:
    """Bytes, read from a place on."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place

    def take(self, length: int) -> bytes:
        start, self._place = self._place, self._place + length
        if length < 0 or self._place > len(self._data):
            raise IndexError(f"{length} bytes at {start} of {len(self._data)}")
        return self._data[start : self._place]

    def field(self) -> bytes | None:
        length = self.varint()
        return None if length < 0 else self.take(length)

    def varint(self) -> int:
        """Return a signed number, which is written zigzag, seven bits a byte, the lowest first."""
        number = shift = 0
        while True:
            byte = self._data[self._place]
            self._place += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
