"""Records made for tests, without Kafka."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import attrs
import orjson

from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition

SOURCE = TopicPartition("sessions", 0)


@attrs.define
class Raw:
    """What a Kafka decoder yields, made by hand."""

    offset: int = 0
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = 1_700_000_000_000


def record(
    offset: int, ordering: Hashable = None, document: Any = None, *, error: str | None = None
) -> Record:
    """A record as a decoder would have made it: the value is the document as JSON."""
    raw = Raw(offset, str(ordering).encode(), orjson.dumps(document))
    disposition = None if error is None else DeadLetterReason(error, "DecodeError")
    return Record(SOURCE, offset, raw, document, ordering, disposition)


def reason_of(record: Record) -> str:
    """Why a record can't be applied; empty if it can."""
    return "" if record.disposition is None else record.disposition.reason


def tombstone(offset: int, key: bytes) -> Record:
    """A record without a value."""
    return Record(SOURCE, offset, Raw(offset, key, None), None, key.decode())
