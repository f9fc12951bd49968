"""The sink's SQL on a real Postgres: its merges are those of the fold, and it cuts nothing off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.local.postgres import psql
from pipeline.postgres.connections.bridge import Connection, Session
from pipeline.postgres.connections.errors import RowError, Verdict, judge, sqlstate_of
from pipeline.postgres.sink.catalog import read_table
from pipeline.postgres.sink.merges import MERGES
from pipeline.postgres.sink.packing import packed
from pipeline.postgres.sink.sink import Sink
from pipeline.postgres.sink.statements import Statements
from tests.support.servers import DatabaseFactory
from tests.support.tables import Declared, document_record, sink_config, writes

pytestmark = pytest.mark.real

words = st.sampled_from(["", "a", "B", "é", "😀", "￿", 'q"\\', "a b", "{}", "NULL"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
moments = st.sampled_from(
    ["2026-01-01T00:00:00+00:00", "2026-01-01T00:30:00+01:00", "1969-12-31T23:59:59.999999Z",
     "2026-01-01T00:00:00"]
)  # fmt: skip
TYPES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    # The type's name in the catalog: the type as declared, and its values in a document.
    "int2": ("int2", st.integers(-100, 100)),
    "int4": ("int4", st.integers(-(2**20), 2**20)),
    "int8": ("int8", st.integers(-(2**50), 2**50)),
    "float4": ("float4", st.integers(-64, 64).map(lambda n: n / 4)),
    "float8": ("float8", st.integers(-(2**20), 2**20).map(lambda n: n / 64)),
    "numeric": ("numeric", st.decimals(-(10**20), 10**20, places=12).map(str) | st.integers(-9, 9)),
    "text": ("text", words),
    "varchar": ("varchar(4)", words),
    "short": ("short", words),
    "bpchar": ("char(4)", words),
    "bool": ("bool", st.booleans()),
    "json": ("json", json_values),
    "jsonb": ("jsonb", json_values),
    "timestamptz": ("timestamptz", moments),
    "timestamp": ("timestamp", moments),
    "date": ("date", st.sampled_from(["2026-01-01", "1999-12-31", "0001-01-01"])),
    "uuid": ("uuid", st.uuids().map(str)),
    "mood": ("mood", st.sampled_from(["sad", "ok"])),
    "bit": ("bit(3)", st.sampled_from(["101", "000"])),
    "_text": ("text[]", st.lists(st.none() | words, max_size=3)),
    "_int4": ("int4[]", st.lists(st.integers(-9, 9), max_size=3)),
}
objects = st.fixed_dictionaries({"a": st.integers(0, 9)}, optional={"b": json_values})
ADDABLE = {"int2": st.integers(-9, 9)}  # a dozen of them stay within the type

PAIRS = [
    (base, merge.name)
    for merge in MERGES.values()
    for base in TYPES
    if not merge.suits or base in merge.suits
]
COLUMNS = {"id": Declared("int8")} | {
    f"{base}_{merge}".replace("_", "array_of_", base[0] == "_"): Declared(base, merge)
    for base, merge in PAIRS
}
DDL = (
    "create type mood as enum ('sad', 'ok'); create domain short as varchar(4); "
    "create table t (id int8 primary key"
    + "".join(f", {n} {TYPES[c.base][0]}" for n, c in COLUMNS.items() if n != "id")
    + ")"
)


def values_of(column: Declared) -> st.SearchStrategy[Any]:
    if column.merge == "jsonb":
        return objects
    if column.merge == "add":
        return ADDABLE.get(column.base, TYPES[column.base][1])
    return TYPES[column.base][1]


values = {name: values_of(column) for name, column in COLUMNS.items() if name != "id"}
identity = {"id": st.integers(1, 2)}
documents = st.fixed_dictionaries(identity | values) | st.fixed_dictionaries(
    identity, optional={name: st.none() | strategy for name, strategy in values.items()}
)


class Database:
    """A connection with its loop, set up as the pipeline sets up its own."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        settings = Session("test").server_settings()
        self.connection: Connection = self.run(
            lambda: asyncpg.connect(dsn, server_settings=settings)
        )

    def run(self, work: Callable[[], Any]) -> Any:
        async def awaited() -> Any:
            return await work()

        return self._loop.run_until_complete(awaited())

    def sink(self, columns: dict[str, Declared], **more: Any) -> tuple[Sink, Statements]:
        table = self.run(lambda: read_table(self.connection, "public.t"))
        assert table is not None
        sink = Sink(sink_config(columns, **more), table)
        return sink, Statements(sink)

    def apply(self, sink: Sink, statements: Statements, batch: Sequence[Any]) -> None:
        """Documents, or pairs of a message key and a document or None, in one transaction."""
        records = [
            document_record(n, *(each if isinstance(each, tuple) else ("k", each)))
            for n, each in enumerate(batch)
        ]

        async def work() -> None:
            async with self.connection.transaction():
                for write in writes(sink, records):
                    await self.connection.execute(
                        statements.plain[write.kind], *packed(write.arrays)
                    )

        self.run(work)

    def rows(self) -> list[tuple[Any, ...]]:
        """Everything as Postgres prints it; json alone keeps what it was given, blanks and all."""
        text = "select id, t::text from t order by id"
        return [tuple(row) for row in self.run(lambda: self.connection.fetch(text))]

    def execute(self, sql: str) -> None:
        self.run(lambda: self.connection.execute(sql))

    def close(self) -> None:
        self.run(self.connection.close)
        self._loop.close()


@pytest.fixture
def db(database: DatabaseFactory) -> Iterator[Database]:
    dsn = database()
    psql(dsn, DDL)
    opened = Database(dsn)
    yield opened
    opened.close()


def test_any_split_gives_the_rows_of_one_record_at_a_time(db: Database) -> None:
    """All merges of all their types, nulls and absent values among them."""
    modes = {mode: db.sink(COLUMNS, mode=mode) for mode in ("upsert", "update")}

    @settings(max_examples=settings().max_examples // 5)  # each is many statements
    @given(
        log=st.lists(documents, min_size=2, max_size=8),
        cut=st.integers(0, 8),
        mode=st.sampled_from(["upsert", "update"]),
    )
    def check(log: list[Any], cut: int, mode: str) -> None:
        found = []
        for batches in ([log[:cut], log[cut:]], [[each] for each in log]):
            db.execute("truncate t; insert into t (id, int8_add) values (1, 5)")
            for batch in filter(None, batches):
                db.apply(*modes[mode], batch)
            found.append(db.rows())
        assert found[0] == found[1]

    check()


def test_merges_of_the_stored_row(db: Database) -> None:
    """What the merges mean, said in values, so that fold and SQL can't be wrong together."""
    names = ["text_last", "text_first", "int4_coalesce", "int8_add", "text_max", "text_min",
             "timestamptz_max", "jsonb_jsonb"]  # fmt: skip
    columns = {name: COLUMNS[name] for name in ["id", *names]}
    sink, statements = db.sink(columns)
    older = ["a", "a", 1, 1, "B", "B", "2026-01-01T00:00:00Z", {"a": 1, "b": {"c": 1}}]
    newer = ["b", "b", None, 2, "a", "a", "2026-01-01T00:30:00+01:00", {"b": {"d": 2}}]
    for values in (older, newer, [None] * 8):
        db.apply(sink, statements, [{"id": 1, **dict(zip(names, values, strict=True))}])
    row = db.run(lambda: db.connection.fetchrow(f"select {', '.join(names)} from t"))
    last, first, known, total, most, least, seen, tags = row
    assert (last, first, known, total, most, least) == (None, "a", 1, 3, "a", "B")
    assert seen.isoformat() == "2026-01-01T00:00:00+00:00"
    assert tags == '{"a": 1, "b": {"d": 2}}'


@pytest.mark.parametrize(
    ("name", "value", "sqlstate"),
    [
        ("varchar_last", "12345", "22001"),
        ("varchar_max", "12345", "22001"),
        ("bpchar_last", "12345", "22001"),
        ("short_last", "12345", "22001"),
        ("bit_last", "1010", "22026"),
        ("int2_last", 40_000, None),
        ("int4_last", 2**31, None),
        ("int8_last", 2**63, None),
        ("int4_add", 2**31, None),
        ("int4_last", 1.5, None),
        ("int4_last", "5", None),
        ("float4_last", 1e300, None),
        ("bool_last", "maybe", None),
        ("numeric_last", "ten", "22P02"),
        ("uuid_last", "not-one", "22P02"),
        ("mood_last", "elated", "22P02"),
        ("timestamptz_last", "someday", "22007"),
        ("date_last", "2026-02-30", "22008"),
        ("text_last", "a\0b", "22021"),
        ("jsonb_last", {"a": "\0"}, "22P05"),
        ("array_of_text_last", "{", "22P02"),
    ],
)
def test_what_does_not_fit_is_refused_and_never_cut(
    db: Database, name: str, value: Any, sqlstate: str | None
) -> None:
    """None: it is refused before Postgres sees it."""
    sink, statements = db.sink({"id": COLUMNS["id"], name: COLUMNS[name]})
    with pytest.raises((asyncpg.PostgresError, RowError)) as caught:
        db.apply(sink, statements, [{"id": 1, name: value}])
    assert isinstance(caught.value, Exception)
    assert judge(caught.value) is Verdict.REJECT
    if sqlstate is not None:
        assert sqlstate_of(caught.value) == sqlstate
    assert db.rows() == []


def test_a_sum_beyond_the_type_is_refused(db: Database) -> None:
    sink, statements = db.sink({"id": COLUMNS["id"], "int2_add": COLUMNS["int2_add"]})
    db.apply(sink, statements, [{"id": 1, "int2_add": 32_000}])
    with pytest.raises(asyncpg.PostgresError) as caught:
        db.apply(sink, statements, [{"id": 1, "int2_add": 32_000}])
    assert judge(caught.value) is Verdict.REJECT


def test_tombstones_delete_and_rows_come_back(db: Database) -> None:
    columns = {"id": Declared("int8", source="@key"), "int8_add": Declared("int8", "add")}
    sink, statements = db.sink(columns, tombstone="delete")
    one = {"int8_add": 1}
    db.apply(sink, statements, [("1", one), ("2", one), ("1", None), ("1", one), ("3", None)])
    text = "select id, int8_add from t order by id"
    assert [tuple(row) for row in db.run(lambda: db.connection.fetch(text))] == [(1, 1), (2, 1)]
    db.apply(sink, statements, [("1", one), ("01", None), ("2", one)])
    assert [tuple(row) for row in db.run(lambda: db.connection.fetch(text))] == [(2, 2)]


@pytest.mark.parametrize("mode", ["update", "upsert"])
def test_rows_that_postgres_alone_sees_as_one_are_for_trying_apart(db: Database, mode: str) -> None:
    db.execute("alter table t drop constraint t_pkey; alter table t add primary key (float4_last)")
    db.execute("alter table t alter id drop not null; insert into t (float4_last) values (0.1)")
    columns = {"float4_last": Declared("float4"), "int8_add": Declared("int8", "add")}
    sink, statements = db.sink(columns, primary_key=("float4_last",), mode=mode)
    with pytest.raises(asyncpg.PostgresError) as caught:
        db.apply(sink, statements, [{"float4_last": 0.1}, {"float4_last": 0.1000000001}])
    assert caught.value.sqlstate == "21000"
    assert judge(caught.value) is Verdict.REJECT
