"""Reading settings from TOML into attrs classes, with every mistake collected on the way.

A class says next to each field how its value is read: ``field(metadata=by(COUNT))``.
``Reading.build`` goes through those fields: it fills in ``${NAME}``, checks types, reports what is
missing and what is unknown. A value with a mistake in it never stops the reading: its place is
taken by the field's default (or ``None``), and the mistake is on the list. So what ``build``
returns may only be trusted once ``Reading.mistakes`` has been found empty.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import attrs
from attrs import frozen

from pipeline.config.kinds import Kind, Unexpected, describe, did_you_mean, nearest

T = TypeVar("T")

NOTHING_GIVEN: Mapping[str, Any] = MappingProxyType({})


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
