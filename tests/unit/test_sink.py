"""Folding: however records are split into batches, the table is what one record at a time makes it.

The model of Postgres here is a dictionary of rows that applies the arrays of `Sink.writes` by the
SQL that `columns` writes (integration/test_sink.py holds the SQL to the same). What the table must be
is said a second time, straight from the documents, without the sink.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from pipeline.postgres.connections.errors import RowError
from pipeline.postgres.sink.sink import SPARSE, Sink, Write
from pipeline.records.record import Record
from pipeline.records.rows import Shape
from tests.support.records import SOURCE, Raw
from tests.support.tables import Declared, document_record, sink_config, table_of, writes

Row = dict[str, Any]
Merge = Callable[[Any, Any], Any]

COLUMNS = {
    "id": Declared("text", source="@key"),
    "latest": Declared("text"),
    "earliest": Declared("text", "first"),
    "count": Declared("int4"),
    "ratio": Declared("float8", "first"),
    "known": Declared("int4", "coalesce"),
    "total": Declared("int8", "add"),
    "amount": Declared("numeric", "add"),
    "most": Declared("int2", "max"),
    "least": Declared("text", "min"),
    "seen": Declared("timestamptz", "max"),
    "born": Declared("date", "min"),
    "tags": Declared("jsonb", "jsonb"),
    "nested": Declared("bool", source="a.b"),
}
READ: dict[str, Callable[[Any], Any]] = {
    "numeric": lambda text: Fraction(str(text)),  # exact
    "timestamptz": datetime.fromisoformat,
    "jsonb": lambda text: orjson.loads(text) if type(text) is str else text,
}
"""What a type makes of what is sent, so that values compare as Postgres compares them."""


def unless_null(merge: Merge) -> Merge:
    def merged(stored: Any, newer: Any) -> Any:
        return newer if stored is None else stored if newer is None else merge(stored, newer)

    return merged


MERGES: dict[str, Merge] = {
    "last": lambda _, newer: newer,
    "first": lambda stored, newer: stored if stored is not None else newer,
    "coalesce": lambda stored, newer: newer if newer is not None else stored,
    "add": unless_null(lambda stored, newer: stored + newer),
    "max": unless_null(lambda stored, newer: stored if stored > newer else newer),
    "min": unless_null(lambda stored, newer: stored if stored < newer else newer),
    "jsonb": unless_null(lambda stored, newer: stored | newer),
}


def read(base: str, value: Any) -> Any:
    return None if value is None else READ.get(base, lambda same: same)(value)


def merge_row(stored: Row, newer: Row) -> Row:
    return {
        name: MERGES[column.merge](stored[name], newer[name]) for name, column in COLUMNS.items()
    }


class Model:
    """A table that applies writes as Postgres does."""

    def __init__(self, mode: str, rows: Iterable[Row] = ()) -> None:
        self.mode = mode
        self.rows = {row["id"]: dict(row) for row in rows}

    def apply(self, write: Write) -> None:
        if write.kind == "delete":
            (keys,) = write.arrays
            assert len(set(keys)) == len(keys) == write.rows
            for key in keys:
                self.rows.pop(key, None)
            return
        arrays = [
            [read(column.base, None if value is UNSET else value) for value in array]
            for column, array in zip(COLUMNS.values(), write.arrays, strict=False)
        ]
        given = (
            write.arrays[-1] if write.kind.endswith(SPARSE) else ["1" * len(COLUMNS)] * write.rows
        )
        rows = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*arrays, strict=True)]
        assert len(rows) == write.rows
        keys = [row["id"] for row in rows]
        if self.mode != "insert":
            assert len(set(keys)) == len(keys), "on conflict refuses to touch a row twice"
            assert keys == sorted(keys), "sorted: or else two transactions deadlock"
        for row, digits in zip(rows, given, strict=True):
            present = {n for n, digit in zip(COLUMNS, digits, strict=True) if digit == "1"}
            self.meet({name: value for name, value in row.items() if name in present})

    def meet(self, given: Row) -> None:
        """One row, of which some columns may be absent, meets the stored one of its key."""
        stored = self.rows.get(given["id"])
        row = (stored or dict.fromkeys(COLUMNS)) | given
        if stored is None and self.mode != "update":
            self.rows[row["id"]] = row
        elif stored is not None and self.mode != "insert":
            self.rows[row["id"]] = {
                n: v if n in given else stored[n] for n, v in merge_row(stored, row).items()
            }


def value_at(document: Any, path: str) -> Any:
    for step in path.split("."):
        if document is not None:
            document = document.get(step, UNSET) if isinstance(document, dict) else UNSET
    return document


def one_at_a_time(
    mode: str, tombstone: str, rows: Iterable[Row], records: Sequence[Record]
) -> dict[Any, Row]:
    """What the table must be, from the documents themselves."""
    model = Model(mode, rows)
    for record in records:
        assert record.key is not None
        key = record.key.decode()
        if record.value is not None:
            document = orjson.loads(record.value)
            found = {n: value_at(document, c.source or n) for n, c in COLUMNS.items()}
            row = {n: read(COLUMNS[n].base, v) for n, v in found.items() if v is not UNSET}
            model.meet(row | {"id": key})
        elif tombstone == "delete":
            model.rows.pop(key, None)
    return model.rows


times = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(
    lambda time: time.isoformat() + "+00:00"
)
days = st.dates(datetime(2020, 1, 1).date(), datetime(2030, 1, 1).date()).map(str)
words = st.sampled_from(["", "a", "B", "b", "é", "😀", "￿", "zz"])
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=10).map(str)
values: dict[str, st.SearchStrategy[Any]] = {
    "latest": words,
    "earliest": words,
    "count": st.integers(-100, 100),
    "ratio": st.floats(-1, 1) | st.integers(-1, 1),
    "known": st.integers(-100, 100),
    "total": st.integers(-(2**40), 2**40),
    "amount": numbers | st.integers(-5, 5),
    "most": st.integers(-100, 100),
    "least": words,
    "seen": times,
    "born": days,
    "tags": st.dictionaries(words, st.none() | st.integers(0, 3), max_size=3),
    "a": st.integers(0, 1) | st.fixed_dictionaries({"b": st.booleans()}),
}
full = st.fixed_dictionaries(values)
partial = st.fixed_dictionaries(
    {}, optional={name: st.none() | strategy for name, strategy in values.items()}
)
logs = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), full | partial | st.none()), min_size=1, max_size=12
).map(lambda pairs: [document_record(n, key, doc) for n, (key, doc) in enumerate(pairs)])
cuts = st.lists(st.booleans(), min_size=12, max_size=12)


def split(records: Sequence[Record], cut: Sequence[bool]) -> list[list[Record]]:
    batches: list[list[Record]] = [[]]
    for record, new in zip(records, cut, strict=False):
        if new and batches[-1]:
            batches.append([])
        batches[-1].append(record)
    return batches


def stored_row(key: str) -> Row:
    return dict.fromkeys(COLUMNS) | {"id": key, "total": 1, "tags": {"a": 9}}


@given(
    records=logs,
    cut=cuts,
    mode=st.sampled_from(["insert", "upsert", "update"]),
    tombstone=st.sampled_from(["ignore", "delete"]),
    stored=st.sets(st.sampled_from(["x", "y"])),
)
def test_any_split_gives_the_result_of_one_record_at_a_time(
    records: list[Record], cut: list[bool], mode: str, tombstone: str, stored: set[str]
) -> None:
    sink = Sink(sink_config(COLUMNS, mode=mode, tombstone=tombstone), table_of(COLUMNS))
    rows = [stored_row(key) for key in sorted(stored)]
    model = Model(mode, rows)
    for batch in split(records, cut):
        for write in writes(sink, batch):
            model.apply(write)
    assert model.rows == one_at_a_time(mode, tombstone, rows, records)


misfits = st.sampled_from(["seven", [7], {"n": 7}])
spoilt: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ["count", "ratio", "known", "total", "amount", "most", "seen", "born"], misfits
    ),
    "tags": st.sampled_from(["seven", [7]]),
    "a": st.fixed_dictionaries({"b": misfits}),
}
"""Values that do not fit: of the wrong kind, or of none that is compared."""
bad = st.one_of(
    *(
        st.builds(operator.or_, full, st.fixed_dictionaries({name: wrong}))
        for name, wrong in spoilt.items()
    )
)
spoilt_logs = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), full | partial | bad), min_size=1, max_size=8
).map(lambda pairs: [document_record(n, key, doc) for n, (key, doc) in enumerate(pairs)])


def applied(sink: Sink, model: Model, records: list[Record]) -> list[int]:
    """Apply a batch as the store does, halving what is refused; the offsets refused for good."""
    try:
        found = list(writes(sink, records))
    except RowError:
        if len(records) == 1:
            return [records[0].offset]
        middle = len(records) // 2
        return applied(sink, model, records[:middle]) + applied(sink, model, records[middle:])
    for write in found:
        model.apply(write)
    return []


@given(records=spoilt_logs, cut=cuts, mode=st.sampled_from(["insert", "upsert", "update"]))
def test_what_is_refused_does_not_depend_on_the_batches(
    records: list[Record], cut: list[bool], mode: str
) -> None:
    """A wrong value is found also where a newer record of the batch covers it."""
    sink = Sink(sink_config(COLUMNS, mode=mode), table_of(COLUMNS))
    model, alone = Model(mode, [stored_row("x")]), Model(mode, [stored_row("x")])
    refused = [offset for batch in split(records, cut) for offset in applied(sink, model, batch)]
    assert refused == [offset for record in records for offset in applied(sink, alone, [record])]
    assert model.rows == alone.rows


def sink_of(
    columns: dict[str, Declared], primary_key: Sequence[str] = ("id",), **more: Any
) -> Sink:
    return Sink(sink_config(columns, primary_key, **more), table_of(columns))


def written(sink: Sink, *documents: Any) -> list[Write]:
    return list(writes(sink, (document_record(n, "k", doc) for n, doc in enumerate(documents))))


@pytest.mark.parametrize(
    ("base", "merge", "older", "newer", "both"),
    [
        ("text", "last", "a", "b", "b"),
        ("text", "last", "a", None, None),
        ("text", "first", "a", "b", "a"),
        ("text", "first", None, "b", "b"),
        ("text", "coalesce", "a", "b", "b"),
        ("text", "coalesce", "a", None, "a"),
        ("int4", "add", 1, 2, 3),
        ("int4", "add", None, 2, 2),
        ("int4", "max", 1, 2, 2),
        ("text", "max", "a", "B", "a"),
        ("int4", "min", 1, 2, 1),
        ("int4", "min", 1, None, 1),
        ("jsonb", "jsonb", {"a": 1, "b": {"c": 1}}, {"b": {"d": 2}}, '{"a":1,"b":{"d":2}}'),
    ],
)
def test_what_a_merge_makes_of_two_records(
    base: str, merge: str, older: Any, newer: Any, both: Any
) -> None:
    sink = sink_of({"id": Declared("int8"), "v": Declared(base, merge)})
    (write,) = written(sink, {"id": 1, "v": older}, {"id": 1, "v": newer})
    assert write.arrays == ([1], [both])


def test_a_thousand_updates_of_one_row_are_one_row() -> None:
    sink = sink_of({"id": Declared("int8"), "n": Declared("int8", "add")})
    (write,) = written(sink, *({"id": 1, "n": 1} for _ in range(1000)))
    assert (write.kind, write.rows, write.arrays) == ("upsert", 1, ([1], [1000]))


def test_keys_of_several_columns_and_types_are_folded_and_sorted() -> None:
    columns = {"a": Declared("int8"), "b": Declared("text"), "n": Declared("int8", "add")}
    sink = sink_of(columns, ("a", "b"))
    (write,) = written(
        sink, {"a": 2, "b": "x", "n": 1}, {"a": 1, "b": "y", "n": 1}, {"a": 2, "b": "x", "n": 5}
    )
    assert write.arrays == ([1, 2], ["y", "x"], [1, 6])


@pytest.mark.parametrize(
    ("base", "one", "same"),
    [
        ("text", 1, "1"),
        ("text", True, "true"),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        ("numeric", 1, "1.00"),
        ("timestamptz", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
    ],
)
def test_a_key_written_in_two_ways_is_one_row(base: str, one: Any, same: Any) -> None:
    """`update … from` would take either of two such rows and drop the other."""
    sink = sink_of({"id": Declared(base), "n": Declared("int8", "add")}, mode="update")
    (write,) = written(sink, {"id": one, "n": 1}, {"id": same, "n": 2})
    assert (write.rows, write.arrays[1]) == (1, [3])


def test_a_whole_number_that_the_message_key_writes_in_two_ways_is_one_row() -> None:
    sink = sink_of({"id": Declared("int8", source="@key")}, tombstone="delete")
    records = [document_record(0, "01", {}), document_record(1, "1", None)]
    (write,) = writes(sink, records)
    assert (write.kind, write.arrays) == ("delete", ((1,),))


def test_numeric_adds_without_rounding() -> None:
    sink = sink_of({"id": Declared("int8"), "n": Declared("numeric", "add")})
    (write,) = written(sink, {"id": 1, "n": "1e30"}, {"id": 1, "n": "0.0000000001"})
    assert write.arrays[1] == ["1000000000000000000000000000000.0000000001"]


def test_a_row_deleted_and_written_again_takes_a_statement_after_another() -> None:
    sink = sink_of({"id": Declared("text", source="@key")}, tombstone="delete")
    records = [document_record(0, "x", None), document_record(1, "x", {})]
    assert [write.kind for write in writes(sink, records)] == ["delete", "upsert"]


def test_tombstones_alone_that_are_ignored_write_nothing() -> None:
    sink = sink_of({"id": Declared("int8")})
    assert written(sink, None, None) == []


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({}, r"primary key \(id\) is missing or null"),
        ({"id": None}, r"primary key \(id\) is missing or null"),
        ({"id": [1]}, "not a plain value"),
        ({"id": {"a": 1}}, "not a plain value"),
        ({"id": 1, "n": "7"}, "column n: expected a whole number, not '7'"),
        ({"id": 1, "n": 1.5}, "column n: expected a whole number, not 1.5"),
        ({"id": 1, "n": True}, "column n: expected a whole number, not True"),
        ({"id": 1, "x": "NaN"}, "column x: expected a finite number, not 'NaN'"),
        ({"id": 1, "x": "1e999999"}, "column x: '1e999999' is beyond the limits of numeric"),
        ({"id": 1, "x": "ten"}, "column x: expected a number, not 'ten'"),
        ({"id": 1, "j": [1]}, r"column j: a jsonb merge needs a JSON object, not \[1\]"),
        ({"id": 1, "at": 5}, "column at: expected an ISO 8601 time as text, not 5"),
        ({"id": 1, "at": "yesterday"}, "column at: "),
    ],
)
def test_what_can_not_become_a_row_is_the_records_fault(document: Any, reason: str) -> None:
    columns = {
        "id": Declared("int8"),
        "n": Declared("int4", "add"),
        "x": Declared("numeric", "max"),
        "j": Declared("jsonb", "jsonb"),
        "at": Declared("timestamptz", "max"),
    }
    with pytest.raises(RowError, match=reason):
        written(sink_of(columns), {"id": 1}, document)


def test_a_timestamp_that_no_calendar_has_is_the_records_fault() -> None:
    sink = sink_of({"id": Declared("int8"), "at": Declared("timestamptz", source="@timestamp")})
    record = document_record(0, "k", {"id": 1})
    record.raw.timestamp = 10**18  # type: ignore[misc]  # the test's own raw record
    with pytest.raises(RowError, match="column at: "):
        list(writes(sink, [record]))


def test_a_key_that_is_not_utf_8_is_the_records_fault_in_a_json_column() -> None:
    sink = sink_of({"id": Declared("int8"), "j": Declared("jsonb", source="@key")})
    record = document_record(0, "k", {"id": 1})
    record.raw.key = b"\xff"  # type: ignore[misc]  # the test's own raw record
    with pytest.raises(RowError, match="column j: "):
        list(writes(sink, [record]))


def test_json_goes_as_it_was_produced() -> None:
    """With its digits: neither a float nor 64 bits hold these."""
    sink = sink_of({"id": Declared("int8"), "j": Declared("jsonb"), "n": Declared("numeric")})
    text = b'{"price":1.10,"big":123456789012345678901234567890}'
    value = b'{"id":1,"j":%s,"n":123456789012345678901234567890}' % text
    (write,) = writes(sink, [Record(SOURCE, 0, Raw(0, b"k", value), None, "k")])
    assert write.arrays == ([1], [text.decode()], ["123456789012345678901234567890"])


@pytest.mark.parametrize("merge", ["last", "first", "coalesce"])
def test_the_null_of_json_is_that_of_sql(merge: str) -> None:
    sink = sink_of({"id": Declared("int8"), "j": Declared("jsonb", merge)})
    (write,) = written(sink, {"id": 1, "j": None})
    assert write.arrays == ([1], [None])
    (write,) = written(sink, {"id": 1, "j": {"a": 1}}, {"id": 1, "j": None})
    assert write.arrays[1] == [None if merge == "last" else '{"a":1}']


def test_a_field_that_is_read_in_two_ways_is_decoded_once() -> None:
    columns = {
        "id": Declared("int8"),
        "j": Declared("jsonb", source="tags"),
        "k": Declared("json", source="tags"),
        "n": Declared("int4", source="tags.n"),
    }
    assert sink_of(columns).shape == Shape(("id", "tags"))
    (write,) = written(sink_of(columns), {"id": 1, "tags": {"n": 5, "big": 2**70}})
    assert write.arrays == ([1], *[[f'{{"n":5,"big":{2**70}}}']] * 2, [5])
    del columns["n"]
    assert sink_of(columns).shape == Shape(("id", "tags"), frozenset({"tags"}))


def test_json_that_is_not_utf_8_is_the_records_fault() -> None:
    sink = sink_of({"id": Declared("int8"), "j": Declared("jsonb")})
    record = Record(SOURCE, 0, Raw(0, b"k", b'{"id":1,"j":"\xff"}'), None, "k")
    with pytest.raises(RowError, match="column j: 'utf-8' codec can't decode byte 0xff"):
        list(writes(sink, [record]))
