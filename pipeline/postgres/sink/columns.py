"""A column of the sink: how its values travel, and how a newer one meets an older one (`merges`).

Whole numbers, floats and booleans must be such in JSON too; everything else is text that Postgres
casts, because then Postgres's own rules say what a valid value is. Types whose values must be compared
here (``max`` of a timestamp) are parsed first. JSON that is not merged inside goes as it was produced.

Numbers and booleans are checked before they are folded, so that a wrong value is found also if a newer
record of the batch would have covered it. What Postgres casts, it can only judge in the folded row
(docs/design/exactly-once.md says what follows).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from msgspec import UNSET, UnsetType

from pipeline.config.model import ColumnConfig
from pipeline.postgres.connections.errors import RowError
from pipeline.postgres.sink import values
from pipeline.postgres.sink.catalog import Column
from pipeline.postgres.sink.merges import MERGES, TEXTS, Fold, Merge, either
from pipeline.postgres.sink.transport import PARSED, Convert, transport
from pipeline.records.path import Getter, Path
from pipeline.records.record import Record
from pipeline.records.rows import Shape

EXACT = frozenset(PARSED) - {"float4"} | {"bool", "bpchar", "bytea"}
"""The types whose equal values are equal here too, if their collation is deterministic."""

_NUMBER = r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_NEVER: frozenset[type] = frozenset()
UNCHANGED: Mapping[Convert, frozenset[type]] = {
    values.as_text: frozenset({str, type(None)}),
    values.integer: frozenset({int, type(None)}),
    values.number: frozenset({int, float, type(None)}),
    values.boolean: frozenset({bool, type(None)}),
}
"""The conversions that leave values of these types as they are: a look at all types is cheaper."""


def quote(name: str) -> str:
    """A name as Postgres reads it whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


@attrs.frozen
class SinkColumn:
    """A column that the sink writes.

    Attributes:
        name: its name, unquoted.
        path: where its values are.
        getter: record → value as decoded, or None.
        merge: how a newer value meets an older one.
        base: its type in the catalog.
        type: the type as SQL writes it.
        array: the type of the array that its values are read into, without ``[]``.
        convert: applied to what is not None before it is folded and sent; None: as it is.
        encode: applied after folding; None: as it is.
        missing: what a record without the field does.
        default: SQL of a new row's value if the field is absent and kept so.
        identity: of what type it is, as `catalog.IDENTITY` has it.
        exact: whether Postgres holds equal what is equal here, and nothing else.
    """

    name: str
    path: Path
    getter: Getter
    merge: Merge
    base: str
    type: str
    array: str
    convert: Convert | None
    encode: Convert | None
    missing: str = "null"
    default: str = "null"
    identity: str = ""
    exact: bool = True

    @property
    def keeps(self) -> bool:
        """Whether an absent field leaves the stored value, or the default of a new row, alone."""
        return self.missing == "keep"

    @property
    def field(self) -> str | None:
        """The field of the value that it is; None where its values are found in another way."""
        return self.path.steps[0] if self.path.in_value and len(self.path.steps) == 1 else None

    @property
    def fold(self) -> Fold:
        exact = self.merge.name == "add" and self.base == "numeric"
        return either(values.EXACT.add) if exact else self.merge.fold

    def read(self, records: Iterable[Record]) -> list[Any]:
        """Its values in records, as they were decoded.

        Raises:
            RowError: one can't be read, such as a message's timestamp in the year 30,000.
        """
        try:
            return [self.getter(record) for record in records]
        except (ValueError, TypeError, OverflowError, OSError) as error:
            raise unfit(self, error) from error

    def selected(self) -> str:
        """The value in the statement's source, cast to the column's type.

        Text is left to the assignment: an explicit cast to ``varchar(n)`` would cut it short.
        """
        name = f"u.{quote(self.name)}"
        if self.base == "bpchar":  # without a length, which would cut; compared as char(n) is
            return f"{name}::bpchar"
        if self.array == self.type or self.base in TEXTS:
            return name
        if self.base == "money":  # a number's point is one whatever the locale takes it for
            return (
                f"case when {name} ~ '{_NUMBER}' then {name}::numeric::money else {name}::money end"
            )
        return f"{name}::{self.type}"

    def merged(self, stored: str, newer: str) -> str:
        """SQL of the stored row's value (``stored``: its table) merged with the newer one."""
        name = quote(self.name)
        return self.merge.merged(f"{stored}.{name}", f"{newer}.{name}", self.base)

    def parsed(self, found: Sequence[Any]) -> tuple[Sequence[Any], bool]:
        """Values as they were decoded → as they are folded, and whether one is absent and kept so.

        Raises:
            RowError: one can't be converted.
        """
        kinds = set(map(type, found))
        absent = UnsetType in kinds
        if absent:
            found = self._without_absent(found)
            absent = self.keeps
        convert = self.convert
        if convert is None or UNCHANGED.get(convert, _NEVER).issuperset(kinds):
            return found, absent
        try:
            return [v if v is None or v is UNSET else convert(v) for v in found], absent
        except (ValueError, TypeError, OverflowError) as error:
            raise unfit(self, error) from error

    def _without_absent(self, found: Sequence[Any]) -> Sequence[Any]:
        if self.missing == "reject":
            raise RowError(f"column {self.name}: {self.path.text} is missing")
        return found if self.keeps else [None if value is UNSET else value for value in found]

    def values(self, converted: Sequence[Any]) -> Sequence[Any]:
        """Folded values as the array to send."""
        encode = self.encode
        if encode is None or _unchanged(encode, converted):
            return converted
        try:
            return [None if value is None else encode(value) for value in converted]
        except (ValueError, TypeError) as error:
            raise unfit(self, error) from error


def unfit(column: SinkColumn, error: Exception) -> RowError:
    """What a conversion raised, as an error of the record."""
    told = getattr(error, "without_values", f"the value can't be one of type {column.type}")
    return RowError(f"column {column.name}: {error}", f"column {column.name}: {told}")


def _unchanged(change: Convert | None, found: Sequence[Any]) -> bool:
    return change is None or UNCHANGED.get(change, _NEVER).issuperset(map(type, found))


def shape_of(columns: Iterable[SinkColumn]) -> Shape:
    """What columns read of a value."""
    readers: dict[str, list[bool]] = {}
    for column in columns:
        if column.path.in_value:
            text = column.field is not None and column.convert is values.json_text
            readers.setdefault(column.path.steps[0], []).append(text)
    return Shape(tuple(readers), frozenset(name for name, texts in readers.items() if all(texts)))


def sink_column(
    config: ColumnConfig, column: Column, *, key: bool = False, missing: str = "keep"
) -> SinkColumn:
    """The column as configured and as the catalog has it.

    ``key``: it is of the primary key; ``missing``: what the sink says of absent fields.
    """
    path = Path.parse(config.source)
    merge = MERGES[config.merge]
    array, convert, encode = transport(config, column, path, key)
    return SinkColumn(
        name=config.name,
        path=path,
        getter=path.finder(),
        merge=merge,
        base=column.base,
        type=column.plain_type or column.type,
        array=array,
        convert=convert,
        encode=encode,
        missing="null" if key else config.missing or missing,
        default=column.default,
        identity=column.identity,
        exact=column.base in EXACT and column.deterministic,
    )


def converted(column: SinkColumn, value: Any) -> Any:
    """One value through the column's conversion.

    Raises:
        RowError: it can't be converted; the message names the column and the value.
    """
    if value is None or value is UNSET or column.convert is None:
        return value
    try:
        return column.convert(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise unfit(column, error) from error
