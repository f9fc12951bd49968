"""Kinds of values: what a person should write for each, and how it is read.

The first of the checks of a configuration (docs/design/overview.md has all four): each value by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from attrs import frozen

from pipeline.config import dsn
from pipeline.config.mistakes import describe, did_you_mean, kind_of
from pipeline.records.path import Path as RecordPath
from pipeline.records.ranges import ranges_of

SHORTEST_TOKEN = 16
"""Characters. Shorter ones can be guessed."""

HIGHEST_PARTITION = 99_999
"""Far more than a Kafka cluster holds; keeps a mistyped range from filling the memory."""


class Unexpected(Exception):
    """Raised by `Kind.parse` for a value that is not what the kind expects."""


@frozen
class Kind:
    """A kind of value.

    Attributes:
        expects: what a person should write.
        parse: turns what TOML gives into the value. It raises `Unexpected` if ``expects`` says all
            there is to say; and `ValueError` with a message of its own if ``expects`` does not, or if
            the value is a secret that must not be shown.
    """

    expects: str
    parse: Callable[[Any], Any]


def by(kind: Kind, *, key: str | None = None) -> dict[str, Any]:
    """Return the metadata of a field that is read as ``kind``.

    ``key`` is the field's name in the file; None if it is the field's own.
    """
    return {"kind": kind, "key": key}


def choice(*options: str) -> Kind:
    """Make the kind of a value that is one of a few words."""
    expects = f"one of {', '.join(options)}" if len(options) > 1 else json.dumps(options[0])

    def parse(value: Any) -> str:
        if value in options:
            return str(value)
        raise ValueError(
            f"expected {expects}, not {describe(value)}{did_you_mean(str(value), options)}"
        )

    return Kind(expects, parse)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Unexpected
    if not value.strip():
        raise ValueError("expected a string that is not empty")
    return value


def _strings(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        odd = next(item for item in items if not isinstance(item, str))
        raise ValueError(f"expected {TEXTS.expects}, not {describe(odd)}")
    if not items or not all(item.strip() for item in items):
        raise ValueError("expected at least one string, and none that is empty")
    if twice := [item for item in items if items.count(item) > 1]:
        raise ValueError(f"{describe(twice[0])} is there twice")
    return tuple(items)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unexpected
    return value


def _topic(value: Any) -> str:
    """Read a topic's name, as Kafka takes it."""
    name = _string(value)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name in (".", ".."):
        raise Unexpected
    return name


def _topics(value: Any) -> tuple[str, ...]:
    names = _strings(value)
    for name in names:
        try:
            _topic(name)
        except Unexpected:
            raise ValueError(f"expected {TOPICS.expects}, not {describe(name)}") from None
    return names


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise Unexpected
    return value


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: Any) -> float:
    """Read a duration, in seconds, from ``"500ms"``, ``"10s"``, ``"2m"``, ``"1h"``, ``"1d"`` or a number.

    Raises:
        Unexpected: it is none of these.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", value.strip())
        if not match:
            raise Unexpected
        number, unit = float(match[1]), match[2]
        return number / 1000 if unit == "ms" else number * _UNITS[unit]
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise Unexpected
    return float(value)


def _positive_seconds(value: Any) -> float:
    duration = seconds(value)
    if duration <= 0:
        raise Unexpected
    return duration


def _path(value: Any) -> str:
    text = _string(value)
    RecordPath.parse(text)
    return text


def _paths(value: Any) -> tuple[str, ...]:
    return tuple(_path(text) for text in _strings(value))


def _servers(value: Any) -> tuple[str, ...]:
    """Read addresses; one string may hold several with commas between, as elsewhere in Kafka."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return _strings(value)
    return _strings([part.strip() for each in listed for part in each.split(",")])


def _handler(value: Any) -> str:
    text = _string(value)
    module, colon, function = text.partition(":")
    if not (colon and function.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise Unexpected
    return text


def parse_partitions(value: Any) -> frozenset[int]:
    """Read partition numbers from ``"0-2"``, ``"0,3-5"``, a list of numbers, or a number.

    Raises:
        Unexpected: it is none of these.
        ValueError: a range is backwards, or a number too high; the message says so.
    """
    if isinstance(value, str):
        return frozenset(n for part in value.split(",") for n in _range(part.strip()))
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(type(n) is int and 0 <= n <= HIGHEST_PARTITION for n in numbers):
        raise Unexpected
    return frozenset(numbers)


def show_partitions(partitions: Collection[int]) -> str:
    """Write partition numbers as `parse_partitions` reads them: ``0-2,5``."""
    return ",".join(
        str(start) if end == start + 1 else f"{start}-{end - 1}"
        for start, end in ranges_of(partitions)
    )


def _range(text: str) -> range:
    match = re.fullmatch(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?", text)
    if not match:
        raise Unexpected
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ValueError(f'the range "{text}" is backwards: expected "{last}-{first}"')
    if last > HIGHEST_PARTITION:
        raise ValueError(f"partition {last} is above {HIGHEST_PARTITION}")
    return range(first, last + 1)


def _listen(value: Any) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:\s\[\]]+):([0-9]{1,5})", _string(value))
    if not match or int(match[2]) > 65535:
        raise Unexpected
    return match[1].strip("[]"), int(match[2])


_RATE_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _rate(value: Any) -> float:
    """Read a rate, per second."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*/\s*([smh])", _string(value).strip())
    if not match or not (number := float(match[1])):
        raise Unexpected
    return number / _RATE_SECONDS[match[2]]


def _tokens(value: Any) -> tuple[str, ...]:
    """Read tokens; a string may hold several, a line each. No message shows one."""
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected {TOKENS.expects}, not {kind_of(value)}")
    lines = [line.strip() for text in texts for line in text.splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise ValueError("holds no token: expected at least one, a line each")
    if not all(re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token) for token in tokens):
        raise ValueError(
            "a token has characters that can't be sent: letters, digits and ._~+/-= may be"
        )
    if any(len(token) < SHORTEST_TOKEN for token in tokens):
        raise ValueError(
            f"a token has fewer than {SHORTEST_TOKEN} characters: make one with `openssl rand -hex 24`"
        )
    if len(set(tokens)) < len(tokens):
        raise ValueError("a token is there twice")
    return tuple(tokens)


def _origins(value: Any) -> tuple[str, ...]:
    origins = _strings(value)
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", origin):
            raise ValueError(f"expected {ORIGINS.expects}, not {describe(origin)}")
    return origins


TEXT = Kind("a string", _string)
TEXTS = Kind("a string or a list of strings", _strings)
TOPIC = Kind("a topic: letters, digits, '.', '_' and '-', at most 249", _topic)
TOPICS = Kind("a topic, or a list of them: letters, digits, '.', '_' and '-', at most 249", _topics)
COUNT = Kind("a whole number above 0", _count)
SWITCH = Kind("true or false", _switch)
DURATION = Kind('a duration above 0, such as "10s", "500ms" or "2m"', _positive_seconds)
PATH = Kind('a path such as "a.b", "@key" or "@header:NAME"', _path)
PATHS = Kind('a path, or a list of paths, such as "a.b", "@key" or "@header:NAME"', _paths)
COLUMN = Kind('a path, or a table with "from" and "merge"', _path)
SERVERS = Kind('an address such as "127.0.0.1:9092", or a list of them', _servers)
HANDLER = Kind('"package.module:function"', _handler)
DSN = Kind(dsn.EXPECTS, dsn.parse_dsn)
PARTITIONS = Kind('partition numbers such as "0-2", "0,3-5", [0, 1, 2] or 4', parse_partitions)
LISTEN = Kind('an address and a port such as "127.0.0.1:9187"', _listen)
RATE = Kind('a rate above 0, such as "100/s", "600/m" or "5000/h"', _rate)
TOKENS = Kind('a secret such as "${TOKEN}" or "${file:PATH}", or a list of them', _tokens)
ORIGINS = Kind('an origin such as "https://app.example.com", a list of them, or "*"', _origins)
