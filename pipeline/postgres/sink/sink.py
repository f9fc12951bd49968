"""The declared sink: records → the columns of one statement.

A batch becomes one statement over ``unnest`` arrays, whatever its size: one round trip, one plan.
Records of one row are folded first, because ``insert … on conflict`` refuses to touch a row twice,
and because a thousand updates of one row should be one. Rows are sorted by primary key: two
transactions that lock the same rows in different orders deadlock.

Work goes column by column, not row by row: a list comprehension over a column costs a third of what
filling rows does, and arrays by column are what the statement takes. The sink says which fields of a
value it reads (`Sink.shape`), and its records' documents are rows of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import groupby, pairwise
from typing import Any

import attrs
from msgspec import UNSET, Raw
from msgspec.structs import astuple

from pipeline.config.model import SinkConfig
from pipeline.postgres.connections.errors import RowError
from pipeline.postgres.sink.catalog import Table
from pipeline.postgres.sink.columns import (
    SinkColumn,
    converted,
    shape_of,
    sink_column,
)
from pipeline.postgres.sink.values import decode_json, json_text
from pipeline.records.record import Record
from pipeline.records.rows import Shape

SPARSE = " sparse"
"""Ends the kind of a statement of which some rows lack fields that are kept as they are stored."""


@attrs.frozen
class Write:
    """One statement's worth of rows: the kind of statement, its arrays, and how many rows."""

    kind: str
    arrays: tuple[Sequence[Any], ...]
    rows: int


class Sink:
    """A table, how its rows are written, and what they are made of."""

    def __init__(self, config: SinkConfig, table: Table) -> None:
        self.mode = config.mode
        self.table = table.sql
        self.columns = tuple(
            sink_column(
                column,
                table.columns[column.name],
                key=column.name in config.primary_key,
                missing=config.missing,
            )
            for column in config.columns
        )
        by_name = {column.name: column for column in self.columns}
        self.primary_key = tuple(by_name[name] for name in config.primary_key)
        self.shape: Shape = shape_of(self.columns)
        """The fields that the columns read; first of all in the rows that records must hold."""
        self.mergeable = table.mergeable
        self.overriding = any(table.columns[name].always_identity for name in by_name)
        self._exact_keys = all(column.exact for column in self.primary_key)
        self.deletes = config.tombstone == "delete"
        self._key_of = _key_getter(self.primary_key)

    def writes(self, records: Sequence[Record]) -> Iterator[Write]:
        """The statements that apply ``records``, in order; usually one.

        A row that is deleted and written again within the batch needs one statement after another.

        Raises:
            RowError: a record can't become a row.
        """
        if not any([record.document is None for record in records]):  # noqa: C419 (half the time)
            yield from self._upserts(records)
        elif self.deletes:
            for deleted, run in self._phases(records):
                yield from [self._delete(run)] if deleted else self._upserts(run)
        elif live := [record for record in records if record.raw.value is not None]:
            yield from self._upserts(live)

    def _phases(self, records: Sequence[Record]) -> Iterator[tuple[bool, list[Record]]]:
        """Records split so that each part writes a row or deletes it, and never both."""
        if not self._exact_keys:  # two keys may be one row to Postgres: one after another
            for deleted, run in groupby(records, key=lambda record: record.raw.value is None):
                yield deleted, list(run)
            return
        live: dict[Any, list[Record]] = {}
        dead: dict[Any, list[Record]] = {}
        for record in records:
            key = self._required_key(record)
            if record.raw.value is None:
                live.pop(key, None)  # written, then deleted: only the deleting counts
                dead[key] = [record]
            elif key in dead:
                yield True, [record for run in dead.values() for record in run]
                dead = {}
                live.setdefault(key, []).append(record)
            else:
                live.setdefault(key, []).append(record)
        if dead:
            yield True, [record for run in dead.values() for record in run]
        if live:
            yield False, [record for run in live.values() for record in run]

    def _delete(self, records: Sequence[Record]) -> Write:
        keys = sorted({self._required_key(record) for record in records}, key=_sortable)
        columns = zip(*((key,) if len(self.primary_key) == 1 else key for key in keys), strict=True)
        arrays = tuple(
            column.values(values) for column, values in zip(self.primary_key, columns, strict=True)
        )
        return Write("delete", arrays, len(keys))

    def _upserts(self, records: Sequence[Record]) -> Iterator[Write]:
        """Usually one. ``update … from`` takes any of the rows that only Postgres knows to be one."""
        if self.mode == "update" and not self.mergeable and not self._exact_keys:
            yield from (self._upsert([record]) for record in records)
        else:
            yield self._upsert(records)

    def _upsert(self, records: Sequence[Record]) -> Write:
        columns, absent = self._columns(records)
        if self.mode == "insert":
            return self._write("insert", columns, len(records), sparse=any(absent))
        layout = _Layout.of(self._keys(columns))
        folded = [
            layout.folded(column, values, sparse=some)
            for column, values, some in zip(self.columns, columns, absent, strict=True)
        ]
        return self._write("upsert", folded, len(layout.last), sparse=any(absent))

    def _write(
        self, kind: str, columns: Sequence[Sequence[Any]], rows: int, *, sparse: bool
    ) -> Write:
        """The statement of folded columns: the sparse one if a value that is kept is absent."""
        digits: list[str] | None = None
        if sparse:
            rest = zip(*columns, strict=True)
            digits = ["".join(["0" if v is UNSET else "1" for v in row]) for row in rest]
            columns = [[None if v is UNSET else v for v in values] for values in columns]
        arrays = tuple(c.values(v) for c, v in zip(self.columns, columns, strict=True))
        if digits is None:
            return Write(kind, arrays, rows)
        return Write(kind + SPARSE, (*arrays, digits), rows)

    def _columns(self, records: Sequence[Record]) -> tuple[list[Sequence[Any]], list[bool]]:
        """For each column its values in the records, in their order, parsed; and if one is absent."""
        fields: dict[str, Sequence[Any]] = {}
        if self.shape.fields:
            # Those that the decoder added for the ordering key come last, and nobody asks for them.
            rows = [record.document for record in records]
            fields = dict(
                zip(self.shape.fields, zip(*map(astuple, rows), strict=True), strict=False)
            )
        parsed = [
            column.parsed(
                column.read(records)
                if column.field is None
                else _decoded(column, fields[column.field])
            )
            for column in self.columns
        ]
        return [values for values, _ in parsed], [absent for _, absent in parsed]

    def _keys(self, columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """The primary keys of records, in their order."""
        by_column = dict(zip(self.columns, columns, strict=True))
        parts = [by_column[column] for column in self.primary_key]
        if any(None in part for part in parts):
            raise self._key_missing()
        return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))

    def _required_key(self, record: Record) -> Any:
        key = self._key_of(record)
        if key is None or (type(key) is tuple and None in key):
            raise self._key_missing()
        try:
            hash(key)
        except TypeError:
            raise RowError("the primary key is not a plain value") from None
        return key

    def _key_missing(self) -> RowError:
        names = ", ".join(column.name for column in self.primary_key)
        return RowError(f"the primary key ({names}) is missing or null")


def _key_getter(columns: Sequence[SinkColumn]) -> Any:
    def value(column: SinkColumn, record: Record) -> Any:
        found = converted(column, *column.read([record]))
        return None if found is UNSET else found

    if len(columns) == 1:
        (only,) = columns
        return lambda record: value(only, record)
    return lambda record: tuple(value(column, record) for column in columns)


def _decoded(column: SinkColumn, found: Sequence[Any]) -> Sequence[Any]:
    """Values that the decoder left as JSON text, for a column that was of JSON when it was made."""
    if column.convert is json_text or Raw not in set(map(type, found)):
        return found
    return [decode_json(value) if type(value) is Raw else value for value in found]


def _sortable(key: Any) -> Any:
    """A key that sorts among keys of other types."""
    if type(key) is tuple:
        return tuple((type(part).__name__, part) for part in key)
    return (type(key).__name__, key)


@attrs.frozen
class _Layout:
    """Which records make which row, rows in the order of their keys.

    Columns are read in the order that records came in, which is how they lie in memory, and only
    then laid out: to sort the records first costs a cache miss a value.
    """

    first: list[int]
    """For each row, the place of its first record in the batch."""
    last: list[int]
    repeated: list[tuple[int, list[int]]]
    """Rows of several records, few as a rule: the row's number, and the places in order."""

    @classmethod
    def of(cls, keys: Sequence[Any]) -> _Layout:
        """From the primary keys of the batch's records.

        Raises:
            RowError: one of them is not a plain value.
        """
        try:
            order = sorted(range(len(keys)), key=keys.__getitem__)  # stable: a row's stay in order
        except TypeError:
            order = sorted(range(len(keys)), key=lambda place: _sortable(keys[place]))
        try:
            if len(set(keys)) == len(keys):
                return cls(order, order, [])
        except TypeError:
            raise RowError("the primary key is not a plain value") from None
        ordered = [keys[place] for place in order]
        ends = [at for at, (key, after) in enumerate(pairwise(ordered), 1) if key != after]
        runs = list(pairwise([0, *ends, len(keys)]))
        return cls(
            [order[start] for start, _ in runs],
            [order[end - 1] for _, end in runs],
            [(n, order[start:end]) for n, (start, end) in enumerate(runs) if end - start > 1],
        )

    def folded(self, column: SinkColumn, values: Sequence[Any], *, sparse: bool) -> list[Any]:
        """A column's values, one for each row; ``values`` has one for each record."""
        if sparse:
            return self._folded_present(column, values)
        if column.merge.name == "last":
            return [values[place] for place in self.last]
        fold, folded = column.fold, [values[place] for place in self.first]
        for number, places in self.repeated:
            folded[number] = reduce(fold, [values[place] for place in places])
        return folded

    def _folded_present(self, column: SinkColumn, values: Sequence[Any]) -> list[Any]:
        """The same with absent values, which change nothing."""
        folded = [values[place] for place in self.first]
        for number, places in self.repeated:
            present = [values[place] for place in places if values[place] is not UNSET]
            folded[number] = reduce(column.fold, present) if present else UNSET
        return folded
