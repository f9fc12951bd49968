"""Reading settings from TOML into attrs classes, with every mistake collected on the way.

A class says next to each field how its value is read: ``field(metadata=by(COUNT))``.
``Reading.build`` goes through those fields: it fills in ``${NAME}``, checks types, reports what is
missing and what is unknown. A value with a mistake in it never stops the reading: its place is
taken by the field's default (or ``None``), and the mistake is on the list. So what ``build``
returns may only be trusted once ``Reading.mistakes`` has been found empty.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
from attrs import frozen

T = TypeVar("T")

NOTHING_GIVEN: Mapping[str, Any] = MappingProxyType({})


HIGHEST_PARTITION = 99_999
"""Far above what a Kafka cluster holds; keeps a mistyped range from filling the memory."""


@frozen
class Mistake:
    """One thing that is wrong: the key it is at (may be empty: the whole file), and what to do."""

    key: str
    message: str


class ConfigError(Exception):
    """A configuration can't be used. Prints one line a mistake, each with the file's name."""

    def __init__(self, source: str, mistakes: Iterable[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        super().__init__(source, self.mistakes)

    def __str__(self) -> str:
        """``FILE: KEY: MESSAGE``, a line a mistake."""
        parts = [(self.source, m.key, m.message) for m in self.mistakes]
        return "\n".join(
            ": ".join(" ".join(part.splitlines()) for part in line if part) for line in parts
        )


class Unexpected(Exception):
    """Raised by ``Kind.parse`` for a value that is not what the kind expects."""


@frozen
class Kind:
    """A kind of value: what a person should write, and how it is read.

    ``parse`` raises ``Unexpected`` where ``expects`` says all there is to say, and ``ValueError``
    with a message of its own where it doesn't (or where the value is a secret and must not be
    shown).
    """

    expects: str
    parse: Callable[[Any], Any]


def by(kind: Kind, *, key: str | None = None) -> dict[str, Any]:
    """Metadata of a field that is read as ``kind``; ``key`` is its name in the file if another."""
    return {"kind": kind, "key": key}


def choice(*options: str) -> Kind:
    """One of a few words."""
    expects = f"one of {', '.join(options)}" if len(options) > 1 else json.dumps(options[0])

    def parse(value: Any) -> str:
        if value in options:
            return str(value)
        raise ValueError(
            f"expected {expects}, not {describe(value)}{did_you_mean(str(value), options)}"
        )

    return Kind(expects, parse)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion in brackets with a space before it, or nothing."""
    suggestion = nearest(word, known)
    return f' (did you mean "{suggestion}"?)' if suggestion else ""


def kind_of(value: object) -> str:
    """What sort of TOML value this is, without showing it."""
    names: dict[type[Any], str] = {
        bool: "a boolean",
        str: "a string",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def describe(value: object) -> str:
    """A value as it is shown in a message; long ones are cut."""
    if not isinstance(value, str | int | float):
        return kind_of(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:78]}…{text[-1]}"


def join(table: str, key: str) -> str:
    """The dotted key; quoted where TOML would want it quoted."""
    part = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
    return f"{table}.{part}" if table else part


def expand(value: Any, environ: Mapping[str, str]) -> Any:
    """Replace ``${NAME}`` in a string, or in a list's strings; ``ValueError`` names what's missing.

    What comes from the environment is taken as it is: a ``${`` in it is not looked at again.
    """
    if isinstance(value, list):
        return [expand(item, environ) for item in value]
    if not isinstance(value, str):
        return value
    names = re.findall(r"\$\{([^}]*)\}", value)
    if missing := [name for name in dict.fromkeys(names) if name not in environ]:
        noun = "variables" if len(missing) > 1 else "variable"
        verb = "are" if len(missing) > 1 else "is"
        raise ValueError(f"the environment {noun} {', '.join(missing)} {verb} not set")
    return re.sub(r"\$\{([^}]*)\}", lambda match: environ[match[1]], value)


def read_toml(path: Path) -> dict[str, Any]:
    """The document in a file; ``ConfigError`` where it can't be read or isn't TOML."""
    try:
        return tomllib.loads(text := path.read_bytes().decode())
    except OSError as error:
        message = f"can't be read: {error.strerror or error}"
        raise ConfigError(str(path), [Mistake("", message)]) from error
    except UnicodeDecodeError as error:
        message = f"not UTF-8: the byte at position {error.start} can't be decoded"
        raise ConfigError(str(path), [Mistake("", message)]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [_syntax_mistake(str(error), text)]) from error


def _syntax_mistake(message: str, text: str) -> Mistake:
    """Take the place out of tomllib's message; the end of the document is a place too."""
    lines = text.split("\n")
    line, column = len(lines), len(lines[-1]) + 1
    if match := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        line, column = int(match[1]), int(match[2])
    what = re.sub(r" \(at [^()]*\)$", "", message)
    return Mistake(f"line {line}, column {column}", f"not valid TOML: {what}")


class Reading:
    """The reading of one document. Nothing here raises: what is wrong goes to ``mistakes``.

    ``broken`` has the keys whose values can't be trusted: those with a mistake, and those that
    were meant where an unknown key was found.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.mistakes: list[Mistake] = []
        self.broken: set[str] = set()

    def wrong(self, key: str, message: str) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(key, message))
        self.broken.add(key)

    def table(self, document: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
        """The table at a key; an absent one is an empty one."""
        value = document.get(key, {})
        if isinstance(value, dict):
            return value
        self.wrong(path, f"expected a table, not {describe(value)}")
        return {}

    def unknown(self, found: Iterable[str], known: Iterable[str], path: str) -> None:
        """Report the keys that nobody knows."""
        for key in found:
            if key not in known:
                self.wrong(join(path, key), f"unknown key{did_you_mean(key, known)}")
                if meant := nearest(key, known):
                    self.broken.add(join(path, meant))

    def value(self, kind: Kind, value: Any, key: str, default: Any = None) -> Any:
        """One value; the default in its place if there is a mistake in it."""
        try:
            value = expand(value, self.environ)
            return kind.parse(value)
        except Unexpected:
            self.wrong(key, f"expected {kind.expects}, not {describe(value)}")
        except ValueError as error:
            self.wrong(key, str(error))
        return default

    def build(
        self,
        cls: type[T],
        values: Mapping[str, Any],
        path: str,
        given: Mapping[str, Any] = NOTHING_GIVEN,
    ) -> T:
        """An instance of an attrs class from a table.

        The keys of the table are those of the fields with a kind. ``given`` are fields that are
        known already. What is absent because of a mistake noted before (a misspelt key, a table
        that is none) is not reported as missing too.
        """
        fields = fields_by_key(cls)
        self.unknown(values, fields, path)
        arguments = dict(given)
        for key, attribute in fields.items():
            if attribute.name in arguments:
                continue
            kind: Kind = attribute.metadata["kind"]
            required = attribute.default is attrs.NOTHING
            place, read = join(path, key), attrs.NOTHING
            if key in values:
                read = self.value(kind, values[key], place, attrs.NOTHING)
            elif required and self.broken.isdisjoint((path, place)):
                self.wrong(place, f"missing: expected {kind.expects}")
            if read is not attrs.NOTHING or required:
                arguments[attribute.name] = None if read is attrs.NOTHING else read
        return cls(**arguments)


def fields_by_key(cls: type[Any]) -> dict[str, Any]:
    """The fields of an attrs class that are read from the file, by their names there."""
    fields = (field for field in attrs.fields(cls) if "kind" in field.metadata)
    return {field.metadata["key"] or field.name: field for field in fields}


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


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise Unexpected
    return value


def seconds(value: Any) -> float:
    """A duration in seconds from ``"10s"``, ``"500ms"``, ``"2m"`` or a number of seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m)", value.strip())
        if not match:
            raise Unexpected
        number, unit = float(match[1]), match[2]
        return number / 1000 if unit == "ms" else number * (60 if unit == "m" else 1)
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise Unexpected
    return float(value)


def _positive_seconds(value: Any) -> float:
    duration = seconds(value)
    if duration <= 0:
        raise Unexpected
    return duration


def _path(value: Any) -> str:
    from pipeline.records import Path as RecordPath

    text = _string(value)
    RecordPath.parse(text)
    return text


def _paths(value: Any) -> tuple[str, ...]:
    return tuple(_path(text) for text in _strings(value))


def _servers(value: Any) -> tuple[str, ...]:
    """Addresses; a string may hold several with commas between, as elsewhere in Kafka."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    return _strings(value)


def _handler(value: Any) -> str:
    text = _string(value)
    module, colon, function = text.partition(":")
    if not (colon and function.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise Unexpected
    return text


def _dsn(value: Any) -> str:
    """A Postgres URL. No message shows the value: there may be a password in it."""
    advice = f"expected {DSN.expects} (percent-encode a password's special characters)"
    if not isinstance(value, str):
        raise ValueError(f"{advice}, not {kind_of(value)}")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(advice) from None
    if parts.scheme not in ("postgresql", "postgres") or "://" not in value:
        raise ValueError(advice)
    return value


def parse_partitions(value: Any) -> frozenset[int]:
    """Partition numbers from ``"0-2"``, ``"0,3-5"``, a list of numbers, or a number."""
    if isinstance(value, str):
        return frozenset(n for part in value.split(",") for n in _range(part.strip()))
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(type(n) is int and 0 <= n <= HIGHEST_PARTITION for n in numbers):
        raise Unexpected
    return frozenset(numbers)


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


TEXT = Kind("a string", _string)
TEXTS = Kind("a string or a list of strings", _strings)
COUNT = Kind("a whole number above 0", _count)
DURATION = Kind('a duration above 0, such as "10s", "500ms" or "2m"', _positive_seconds)
PATH = Kind('a path such as "a.b", "@key" or "@header:NAME"', _path)
PATHS = Kind('a path, or a list of paths, such as "a.b", "@key" or "@header:NAME"', _paths)
COLUMN = Kind('a path, or a table with "from" and "merge"', _path)
SERVERS = Kind('an address such as "127.0.0.1:9092", or a list of them', _servers)
HANDLER = Kind('"package.module:function"', _handler)
DSN = Kind("a URL such as postgresql://USER@HOST:5432/DATABASE", _dsn)
PARTITIONS = Kind('partition numbers such as "0-2", "0,3-5", [0, 1, 2] or 4', parse_partitions)
LISTEN = Kind('an address and a port such as "127.0.0.1:9187"', _listen)
