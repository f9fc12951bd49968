"""A column of the sink: how its values travel, and how a newer one meets an older one.

A merge is said twice, once for Python, which folds the records of a batch into one row, and once for
Postgres, which merges that row with the stored one. Both must agree, so that the result is the same
whatever the batches were. They stand beside each other here for that reason.

How values travel: whole numbers, floats, booleans and text as arrays of their own type; everything
else as text that Postgres casts, because then Postgres's own rules say what a valid value is. Types
whose values must be compared here (``max`` of a timestamp) are parsed first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import attrs
import orjson

from pipeline.config import ColumnConfig
from pipeline.postgres.catalog import Column
from pipeline.postgres.errors import RowError
from pipeline.records import Getter, Path

Fold = Callable[[Any, Any], Any]
"""(older, newer) → what both amount to; either may be None, for null."""

Convert = Callable[[Any], Any]
"""A decoded value, not None → what asyncpg or the fold takes. Raises ValueError or TypeError."""

INTEGERS = {"int2", "int4", "int8"}
FLOATS = {"float4", "float8"}
TEXTS = {"text", "varchar"}
TIMES = {"timestamptz", "timestamp", "date"}
COMPARABLE = INTEGERS | FLOATS | TEXTS | TIMES | {"numeric"}

SUITS: Mapping[str, frozenset[str] | None] = {
    "last": None,
    "first": None,
    "coalesce": None,
    "add": frozenset(INTEGERS | FLOATS | {"numeric"}),
    "max": frozenset(COMPARABLE),
    "min": frozenset(COMPARABLE),
    "jsonb": frozenset({"jsonb"}),
}
"""The types that each merge can take; None for all."""


def _either(fold: Fold) -> Fold:
    """Null changes nothing."""

    def folded(older: Any, newer: Any) -> Any:
        if older is None:
            return newer
        return older if newer is None else fold(older, newer)

    return folded


FOLDS: Mapping[str, Fold] = {
    "last": lambda _, newer: newer,
    "first": lambda older, newer: newer if older is None else older,
    "coalesce": lambda older, newer: older if newer is None else newer,
    "add": _either(lambda older, newer: older + newer),
    "max": _either(max),
    "min": _either(min),
    "jsonb": _either(lambda older, newer: {**older, **newer}),
}

_TEXT_SQL = {"max": 'greatest({t} collate "C", {e} collate "C")',
             "min": 'least({t} collate "C", {e} collate "C")'}  # as Python compares  # fmt: skip
_SQL = {
    "last": "{e}",
    "first": "coalesce({t}, {e})",
    "coalesce": "coalesce({e}, {t})",
    "add": "coalesce({t} + {e}, {e}, {t})",
    "max": "greatest({t}, {e})",
    "min": "least({t}, {e})",
    "jsonb": "coalesce({t} || {e}, {e}, {t})",
}


def quote(name: str) -> str:
    """A name as Postgres reads it whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


@attrs.frozen
class SinkColumn:
    """A column that the sink writes.

    Attributes:
        name: its name, unquoted.
        getter: record → value as decoded, or None.
        merge: one of `FOLDS`.
        base: its type in the catalog.
        type: the type as SQL writes it.
        array: the type of the array that carries its values, without ``[]``.
        convert: applied to what is not None before it is folded and sent; None: as it is.
        encode: applied after folding; None: as it is.
    """

    name: str
    getter: Getter
    field: str | None
    merge: str
    base: str
    type: str
    array: str
    convert: Convert | None
    encode: Convert | None

    @property
    def fold(self) -> Fold:
        return FOLDS[self.merge]

    def selected(self) -> str:
        """The value in the statement's source, cast to the column's type.

        Text is left to the assignment: an explicit cast to ``varchar(n)`` would cut it short.
        """
        name = f"u.{quote(self.name)}"
        if self.array == self.type or self.base in TEXTS | {"bpchar"}:
            return name
        return f"{name}::{self.type}"

    def merged(self, stored: str, newer: str) -> str:
        """SQL of the stored row's value (``stored``: its table) merged with the newer one."""
        patterns = _TEXT_SQL if self.base in TEXTS and self.merge in _TEXT_SQL else _SQL
        return patterns[self.merge].format(
            t=f"{stored}.{quote(self.name)}", e=f"{newer}.{quote(self.name)}"
        )

    def values(self, converted: Sequence[Any]) -> Sequence[Any]:
        """Folded values as the array to send."""
        encode = self.encode
        if encode is None:
            return converted
        return [None if value is None else encode(value) for value in converted]


def sink_column(config: ColumnConfig, column: Column) -> SinkColumn:
    """The column as configured and as the catalog has it."""
    path = Path.parse(config.source)
    array, convert, encode = _transport(column, config.merge, path)
    field = path.steps[0] if path.in_value and len(path.steps) == 1 else None
    return SinkColumn(
        name=config.name,
        getter=path.getter(),
        field=field,
        merge=config.merge,
        base=column.base,
        type=column.type,
        array=array,
        convert=convert,
        encode=encode,
    )


def _transport(
    column: Column, merge: str, path: Path
) -> tuple[str, Convert | None, Convert | None]:
    """How values of a column travel: the array's type, what parses them, what encodes them."""
    base, compared = column.base, merge in ("max", "min", "add")
    if base in ("json", "jsonb"):
        return "text", _json_object if merge == "jsonb" else None, _json_text
    if base in INTEGERS | FLOATS and not path.is_text:
        return (
            {"int2": "smallint", "int4": "integer", "int8": "bigint"}.get(base, column.type),
            (_number if compared else None),
            None,
        )
    if base == "bool" and not path.is_text:
        return "boolean", None, None
    if not compared:
        return "text", None, _text
    if base in INTEGERS:
        return "bigint", int, None
    if base in FLOATS:
        return "double precision", float, None
    if base == "numeric":
        return "text", _decimal, str
    if base in TIMES:
        return "text", {"timestamptz": _moment, "timestamp": _local_time, "date": _date}[base], str
    return "text", _text, None


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return _json_text(value)
    return str(value)


def _json_text(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _json_object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise ValueError(f"a jsonb merge needs a JSON object, not {_shown(value)}")
    return value


def _number(value: Any) -> Any:
    if type(value) is int or type(value) is float:
        return value
    raise ValueError(f"expected a number, not {_shown(value)}")


def _decimal(value: Any) -> Decimal:
    if type(value) is bool:
        raise ValueError(f"expected a number, not {_shown(value)}")
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"expected a number, not {_shown(value)}") from None


def _moment(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else _parsed(datetime.fromisoformat, value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _local_time(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else _parsed(datetime.fromisoformat, value)
    return moment.replace(tzinfo=None)  # as Postgres reads a timestamp: the offset is ignored


def _date(value: Any) -> date:
    return value.date() if isinstance(value, datetime) else _parsed(date.fromisoformat, value)


def _parsed(parse: Callable[[str], Any], value: Any) -> Any:
    if type(value) is not str:
        raise ValueError(f"expected an ISO 8601 time as text, not {_shown(value)}")
    return parse(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def converted(column: SinkColumn, value: Any) -> Any:
    """One value through the column's conversion.

    Raises:
        RowError: it can't be converted; the message names the column and the value.
    """
    if value is None or column.convert is None:
        return value
    try:
        return column.convert(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise RowError(f"column {column.name}: {error}") from error
