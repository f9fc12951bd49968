"""How a column's values travel to Postgres: the type of their array, what parses and what encodes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pipeline.config.model import ColumnConfig
from pipeline.postgres.sink import arrays, binary, times, values
from pipeline.postgres.sink.catalog import Column
from pipeline.postgres.sink.merges import FLOATS, INTEGERS, MERGES, TEXTS
from pipeline.records.path import Path

Convert = Callable[[Any], Any]
"""A decoded value, not None → what asyncpg or the fold takes. Raises ValueError or TypeError."""

ARRAYS = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
}
"""The arrays that numbers of JSON travel in."""

PARSED: Mapping[str, tuple[str, Convert | None, Convert | None]] = {
    **dict.fromkeys(INTEGERS, ("bigint", values.whole, None)),
    **dict.fromkeys(FLOATS, ("double precision", values.finite, None)),
    **dict.fromkeys(TEXTS, ("text", values.as_text, None)),
    "numeric": ("text", values.decimal, str),
    "uuid": ("text", values.uuid, None),
    "timestamptz": ("text", values.moment, str),
    "timestamp": ("text", values.local_time, str),
    "date": ("text", values.day, str),
}
"""What is compared here, not by Postgres alone: array, parser, encoder."""

LISTED: Mapping[str, Convert] = {
    **dict.fromkeys(INTEGERS, values.integer),
    **dict.fromkeys(FLOATS, values.number),
    "bool": values.boolean,
}
"""What must be such in JSON also in a list of it."""

OTHERWISE: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys(("bit", "varbit", "uuid", "inet", "cidr"), values.only_text),
    **dict.fromkeys(("macaddr", "macaddr8"), values.only_text),
    "name": values.at_most(63),
    "char": values.at_most(1),
}
"""What Postgres would take for something else, or cut, without a word."""


def transport(
    config: ColumnConfig, column: Column, path: Path, key: bool
) -> tuple[str, Convert | None, Convert | None]:
    """How values of a column travel: the array's type, what parses them, what encodes them.

    Those of a primary key are parsed too, where one value can be written in several ways: rows that
    are one to Postgres must be one here.
    """
    base, parsed = column.base, MERGES[config.merge].parsed or key
    if base in ("json", "jsonb"):
        if config.merge == "jsonb":
            return "text", values.json_object, values.as_json
        return ("text", None, values.as_json) if key else ("text", values.json_text, None)
    if column.element is not None:
        return "text", None, _array(config, column, column.element)
    if base in ARRAYS and not path.is_text:
        if base in FLOATS:
            return ARRAYS[base], values.number, None
        # A key's values are all there after folding, and are looked at one by one before it.
        return (ARRAYS[base], None, values.integer) if key else (ARRAYS[base], values.integer, None)
    if base == "bool" and not path.is_text:
        return "boolean", values.boolean, None
    if parsed and base in PARSED:
        return _parsed(config, column)
    text = _textual(config, base, column.bound)
    return ("text", text, None) if key or text is not values.as_text else ("text", None, text)


def _array(config: ColumnConfig, column: Column, element: str) -> Convert:
    if element in LISTED:
        of_list = arrays.array_of(arrays.checked(LISTED[element]), column.delimiter)
        return lambda value: of_list(value) if type(value) is list else values.as_text(value)
    return arrays.array_of(_textual(config, element, column.bound), column.delimiter)


def _textual(config: ColumnConfig, base: str, bound: str | None = None) -> Callable[[Any], str]:
    """What makes the text of a value, for a type that Postgres reads from text."""
    if bound is not None:
        return arrays.range_of(_textual(config, bound))
    if base in times.TIMES:
        if config.unit is not None:
            return times.counted(base, config.unit)
        return times.date_text if base in times.SINCE_EPOCH else times.time_text
    if base == "bytea":
        return binary.base64 if config.encoding == "base64" else binary.hexadecimal
    if base in ("json", "jsonb"):
        return values.as_json
    if base in OTHERWISE:
        return OTHERWISE[base]
    return values.unpadded if base == "bpchar" else values.as_text


def _parsed(config: ColumnConfig, column: Column) -> tuple[str, Convert | None, Convert | None]:
    """How values travel that are compared or added here."""
    array, parse, encode = PARSED[column.base]
    if column.precision_and_scale is not None:
        return array, values.decimal_of(*column.precision_and_scale), encode
    if config.unit is not None and parse is not None:
        return array, _through(times.counted(column.base, config.unit), parse), encode
    return array, parse, encode


def _through(first: Convert, then: Convert) -> Convert:
    return lambda value: then(value if isinstance(value, datetime) else first(value))
