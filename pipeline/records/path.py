"""Paths: where a value is found in a record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import attrs
import msgspec

from pipeline.records.record import Record, offset_of
from pipeline.records.rows import Digits, Row

Getter = Callable[[Record], Any]
"""A function from a record to one of its values."""


_QUOTED = re.compile(r"""\[\s*(?:'([^']*)'|"([^"]*)")\s*\]""")
_ELEMENT = re.compile(r"\[\s*(?:[-\d:,\s]*|\*)\s*\]")
_BRACKETS = re.compile(f"(?:{_QUOTED.pattern})|(?:{_ELEMENT.pattern})")
"""``['name']`` and ``[0]``, ``[*]``, ``[]``: steps as other languages of paths write them."""


def _instead(path: str, text: str) -> str:
    """What to write instead of a path in another language, such as JSONPath."""
    root = text[: len(text) - len(path)]
    dotted = path
    for found in _QUOTED.finditer(path):
        name = found[1] or found[2] or ""
        if "." in name or not name:
            return f"a field whose name is {name!r} can't be reached, since dots divide the steps"
        dotted = dotted.replace(found[0], f".{name}", 1)
    dotted = root + re.sub(r"^\$?\.?", "", dotted)
    element = _ELEMENT.search(dotted)
    if element is None:
        return f"write the names of fields with dots between them: {dotted!r}"
    return (
        f"there is no way into a list; {dotted[: element.start()]!r} is the whole list (for a json "
        "column, an array, or a handler)"
    )


@attrs.frozen
class Path:
    """The place of a value in a record.

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
            ValueError: the text is not a path; the message says what a path is.
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
            f"{text!r} is not a valid path: expected a path into the value (a.b), @key, @key.a.b, "
            "@header:NAME, @timestamp, @offset, @partition or @topic"
        )

    @staticmethod
    def _steps(path: str, text: str) -> tuple[str, ...]:
        steps = tuple(path.split("."))
        if not all(steps):
            raise ValueError(f"{text!r} is not a valid path: a step between two dots is empty")
        if steps[0] == "$" or _BRACKETS.search(path):
            raise ValueError(f"{text!r} is not a valid path: {_instead(path, text)}")
        return steps

    @property
    def is_text(self) -> bool:
        """Whether the value found is always text, whatever the producer meant (a key, a header)."""
        return self.base == "@header" or (self.base == "@key" and not self.steps)

    @property
    def in_value(self) -> bool:
        """Whether the path leads into the message's value, which a tombstone does not have."""
        return self.base == "value"

    def getter(self) -> Getter:
        """Return a function from a record to the value; it gives None if any step is missing."""
        found = self.finder()

        def getter(record: Record) -> Any:
            value = found(record)
            return None if value is msgspec.UNSET else value

        return getter

    def finder(self) -> Getter:
        """Return a function from a record to the value; it gives `msgspec.UNSET` if a step is missing.

        What is inside a null is null.
        """
        return _GETTERS[self.base](self.steps)


def _walk(document: Any, steps: Iterable[str]) -> Any:
    for step in steps:
        if type(document) is dict:
            document = document.get(step, msgspec.UNSET)
        elif isinstance(document, Row):
            document = document.get(step)
        else:
            return None if document is None else msgspec.UNSET
    return document


def _from_value(steps: tuple[str, ...]) -> Getter:
    return lambda record: _walk(record.document, steps)


_DECODER = msgspec.json.Decoder(float_hook=Digits)


def _from_key(steps: tuple[str, ...]) -> Getter:
    def text(record: Record) -> str | None:
        key = record.raw.key
        return None if key is None else key.decode("utf-8", "surrogateescape")

    def inside(record: Record) -> Any:
        key = record.raw.key
        if key is None:
            return None
        try:
            return _walk(_DECODER.decode(key), steps)
        except (ValueError, RecursionError):
            return None

    return inside if steps else text


def _from_header(steps: tuple[str, ...]) -> Getter:
    (name,) = steps

    def header(record: Record) -> Any:
        for found, value in reversed(record.raw.headers or ()):
            if found == name:
                return None if value is None else value.decode("utf-8", "surrogateescape")
        return msgspec.UNSET

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
