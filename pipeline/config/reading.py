"""Reading settings from TOML into attrs classes, with every mistake collected on the way.

A class says next to each field how its value is read: ``field(metadata=by(COUNT))``.
`Reading.build` goes through those fields: it fills in what comes from the environment, checks types,
notes what is missing and what is unknown. A mistake never stops the reading: the field's default (or
None) takes the place of the value, and the mistake is on the list. So what `Reading.build` returns may
only be trusted once `Reading.mistakes` has been found empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import attrs

from pipeline.config.environment import as_plain, bare_variable, expand, from_file
from pipeline.config.kinds import Kind, Unexpected
from pipeline.config.mistakes import Mistake, describe, did_you_mean, join, nearest

T = TypeVar("T")

NOTHING_GIVEN: Mapping[str, Any] = MappingProxyType({})


class Reading:
    """The reading of one document. It raises nothing: what is wrong is noted.

    Attributes:
        environ: the environment that ``${NAME}`` is taken from.
        table_of: a key → the table that it belongs to, if it is known which.
        mistakes: what is wrong, in the order in which it was found.
        broken: the keys whose values can't be trusted: those with a mistake, and those that an unknown
            key was probably meant to be.
    """

    def __init__(
        self, environ: Mapping[str, str], table_of: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self.environ = environ
        self.table_of = table_of
        self.mistakes: list[Mistake] = []
        self.broken: set[str] = set()

    def wrong(self, key: str, message: str) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(key, message))
        self.broken.add(key)

    def table(self, document: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
        """Return the table at a key; an absent one is an empty one."""
        value = document.get(key, {})
        if isinstance(value, dict):
            return value
        self.wrong(path, f"expected a table, not {describe(value)}")
        return {}

    def unknown(self, found: Iterable[str], known: Iterable[str], path: str) -> None:
        """Note the keys that are unknown."""
        for key in found:
            if key in known:
                continue
            if (table := self.table_of(key)) not in (None, path):
                brackets = "[[shards]]" if table == "shards" else f"[{table}]"
                self.wrong(join(path, key), f"unknown key here: it belongs to {brackets}")
                self.broken.add(f"{table}.{key}")
                continue
            self.wrong(join(path, key), f"unknown key{did_you_mean(key, known)}")
            if meant := nearest(key, known):
                self.broken.add(join(path, meant))

    def value(self, kind: Kind, value: Any, key: str, default: Any = None) -> Any:
        """Read one value; the default takes its place if there is a mistake in it."""
        written = value
        try:
            if "password" not in key and (name := bare_variable(value)):
                raise ValueError(
                    f'"${name}" stands for itself: for the variable write "${{{name}}}"'
                )
            value = expand(value, self.environ)
            return _parse(kind, value, expanded=value != written)
        except Unexpected:
            shown = written if from_file(written) else value
            self.wrong(key, f"expected {kind.expects}, not {describe(shown)}")
        except ValueError as error:
            hidden = from_file(written) and str(value) in str(error)
            self.wrong(key, f"expected {kind.expects}" if hidden else str(error))
        return default

    def build(
        self,
        cls: type[T],
        values: Mapping[str, Any],
        path: str,
        given: Mapping[str, Any] = NOTHING_GIVEN,
    ) -> T:
        """Make an instance of an attrs class from a table.

        What is absent because of a mistake noted before (a misspelt key, a value that is no table) is
        not noted as missing too.

        Args:
            cls: the class; the keys of the table are those of its fields with a kind.
            values: the table.
            path: the table's dotted key.
            given: fields whose values are known already.
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


def _parse(kind: Kind, value: Any, *, expanded: bool) -> Any:
    """Parse a value; what came out of the environment may be a number or true and false as well.

    Raises:
        Unexpected, ValueError: see `Kind`.
    """
    try:
        return kind.parse(value)
    except (Unexpected, ValueError):
        if not expanded or (plain := as_plain(value)) is None:
            raise
        return kind.parse(plain)


def fields_by_key(cls: type[Any]) -> dict[str, Any]:
    """Return the fields of an attrs class that are read from the file, by their names there."""
    fields = (field for field in attrs.fields(cls) if "kind" in field.metadata)
    return {field.metadata["key"] or field.name: field for field in fields}
