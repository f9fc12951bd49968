"""A dead letter, and the lesser forms in which it is kept where its topic refuses it for good.

A dead letter is the record as it was (key, value, headers), with headers added that say where it was
and why it could not be applied: Kafka Connect's names, so that its tools read them, and ours.

A topic may refuse a record whatever one does, and then a part of it is better than nothing. `LESSENINGS`
are the ways to make a letter less, in the order in which they are tried; each says which refusals it may
mend, and is tried once::

    a key given to it           it has none, and the topic (compacted) demands one
    its value left out          too large; or refused by rules of the topic's own
    its headers left out        the same; what is told of the error is shortened, too
    its key left out            the same
    a bare reference            the same: topic, partition and offset, and nothing else

What is missing is listed in a header, and topic, partition and offset say where the record is. What no
other form could mend either (a right that is missing, a topic that is gone) is no refusal of the letter:
it is sent again as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import orjson
from kafka.errors import (
    CorruptRecordError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
)

from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record

CONNECT = "__connect.errors."
"""What the names of Kafka Connect's headers begin with."""

OURS = "pipeline."
NULLS = OURS + "nulls"
"""The header that lists what was null and could not be sent so: a JSON list."""

OMITTED = OURS + "omitted"
"""The header that lists what of a record its topic refused and is not there: a JSON list."""

TIMESTAMP = OURS + "timestamp"
"""The header with the record's timestamp, in ms (-1: none). The letter's own is when it was written:
retention counts from there, and would take the letter of an old record before anybody looked."""

REASON_BYTES = 1000
"""How much of each added header is kept where headers are refused."""

WHERE = frozenset(
    (
        CONNECT + "topic",
        CONNECT + "partition",
        CONNECT + "offset",
        OURS + "group",
        OURS + "failed-at",
    )
)
"""The headers of a bare reference, besides those that list what is missing."""

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
UNSENDABLE = (TypeError, AssertionError, OverflowError, UnicodeError)
"""What kafka-python raises for what it can't write."""

AGAINST_RULES = (InvalidRecordError, PolicyViolationError, *UNSENDABLE)
"""Refusals that don't tell which part of a record they are about."""

NO_KEY = (*AGAINST_RULES, CorruptRecordError)
"""Before Kafka 2.4 a compacted topic says of a record without a key that it is corrupt."""

REFUSALS = (*TOO_LARGE, *AGAINST_RULES, InvalidTimestampError)
"""The topic refuses this letter as it is, for good, and would take others."""

Headers = tuple[tuple[str, bytes], ...]


@attrs.frozen
class Letter:
    """A dead letter in one of its forms.

    Attributes:
        record: the record that can't be applied.
        key, value: what is sent of it.
        own: the record's own headers, as far as they are sent.
        added: those that say where it was and why it is here.
        nulls: see `without_nulls`.
        omitted: what is left out.
        tried: the names of the `LESSENINGS` that were tried.
    """

    record: Record
    key: bytes | None
    value: bytes | None
    own: Headers
    added: Headers
    nulls: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    tried: frozenset[str] = frozenset()

    @classmethod
    def of(cls, record: Record, rejection: DeadLetterReason, group: str) -> Letter:
        """Return the whole letter."""
        value, own, nulls = _without_nulls(record)
        added = headers_of(record, rejection, group)
        return cls(record, record.key, value, tuple(own), tuple(added), tuple(nulls))

    def message(self) -> dict[str, Any]:
        """Return the arguments of `KafkaProducer.send`."""
        notes = []
        if self.nulls:
            notes.append((NULLS, orjson.dumps(self.nulls)))
        if self.omitted:
            notes.append((OMITTED, orjson.dumps(self.omitted)))
        notes.append((TIMESTAMP, str(self.record.timestamp).encode()))
        return {
            "key": self.key,
            "value": self.value,
            "headers": [*self.own, *self.added, *notes],
        }

    def lesser(self, error: Exception) -> Letter | None:
        """Return the next lesser form that may be taken where this one met ``error``; None: none may."""
        for name, mends, lessen in LESSENINGS:
            if name in self.tried or not isinstance(error, mends):
                continue
            less = attrs.evolve(lessen(self), tried=self.tried | {name})
            if less.message() != self.message():
                return less
        return None

    def without(self, part: str, **changes: Any) -> Letter:
        """Return the letter without a part, which is listed as left out."""
        return attrs.evolve(self, omitted=(*self.omitted, part), **changes)


def _with_a_key(letter: Letter) -> Letter:
    """Its place: unlike any other, so that compaction takes no letter for another one's successor."""
    if letter.key is not None:
        return letter
    return attrs.evolve(letter, key=_place(letter.record), nulls=(*letter.nulls, "key"))


def _without_value(letter: Letter) -> Letter:
    return letter.without("value", value=b"") if letter.value else letter


def _without_headers(letter: Letter) -> Letter:
    added = tuple((name, text[:REASON_BYTES]) for name, text in letter.added)
    nulls = tuple(name for name in letter.nulls if not name.startswith("header:"))
    less = attrs.evolve(letter, own=(), added=added, nulls=nulls)
    return less.without("headers") if letter.own else less


def _without_key(letter: Letter) -> Letter:
    if letter.key is None or "key" in letter.nulls:
        return letter
    if letter.value is None:  # neither can be sent alone
        letter = attrs.evolve(letter, value=b"", nulls=(*letter.nulls, "value"))
    return letter.without("key", key=None)


def _reference(letter: Letter) -> Letter:
    added = tuple((name, text) for name, text in letter.added if name in WHERE)
    return attrs.evolve(
        letter, key=_place(letter.record), value=b"", own=(), added=added, nulls=(),
        omitted=("value", "headers", "key"),
    )  # fmt: skip


def _place(record: Record) -> bytes:
    return f"{record.source}@{record.offset}".encode()


Errors = tuple[type[Exception], ...]

LESSENINGS: tuple[tuple[str, Errors, Callable[[Letter], Letter]], ...] = (
    ("a key", NO_KEY, _with_a_key),
    ("no value", (*TOO_LARGE, *AGAINST_RULES), _without_value),
    ("no headers", (*TOO_LARGE, *AGAINST_RULES), _without_headers),
    ("no key", (*TOO_LARGE, *AGAINST_RULES), _without_key),
    ("reference", REFUSALS, _reference),
)
"""The name, which refusals it may mend, and what it does; the least that is lost comes first."""


def without_nulls(record: Record) -> tuple[bytes | None, list[tuple[str, bytes]]]:
    """Return a record's value and headers in the form that kafka-python's producer takes.

    It takes no null header, and no record whose key and value are both null. Empty bytes stand in for
    these nulls, and the header `NULLS` lists them: ``value``, and ``header:PLACE:NAME`` for each such
    header, counted from 0; and ``key``, if a key was given to a letter that has none. `pipeline dlq
    replay` makes nulls of them again.
    """
    value, headers, nulls = _without_nulls(record)
    return value, [*headers, (NULLS, orjson.dumps(nulls))] if nulls else headers


def _without_nulls(record: Record) -> tuple[bytes | None, list[tuple[str, bytes]], list[str]]:
    headers = list(record.headers or ())
    nulls = [f"header:{n}:{name}" for n, (name, value) in enumerate(headers) if value is None]
    value = record.value
    if record.key is None and value is None:
        nulls.append("value")
        value = b""
    sendable = [(_printable(name), b"" if text is None else text) for name, text in headers]
    return value, sendable, nulls


def headers_of(record: Record, rejection: DeadLetterReason, group: str) -> list[tuple[str, bytes]]:
    """Return the headers that say where a dead letter was and why it is one."""
    texts = {
        CONNECT + "topic": record.topic,
        CONNECT + "partition": str(record.partition),
        CONNECT + "offset": str(record.offset),
        CONNECT + "connector.name": group,
        CONNECT + "exception.class.name": rejection.error,
        CONNECT + "exception.message": rejection.reason,
        OURS + "sqlstate": rejection.sqlstate or "",
        OURS + "group": group,
        OURS + "attempts": str(rejection.attempts),
        OURS + "failed-at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    return [(name, text.encode(errors="backslashreplace")) for name, text in texts.items()]


def _printable(name: str) -> str:
    """A header's name in UTF-8: bytes that are none were read as surrogates."""
    return name.encode(errors="backslashreplace").decode()
