"""Rows as they meet the stored ones: conditions, keys, absent fields, names, types that change."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.postgres.sink.catalog import read_table
from pipeline.postgres.sink.packing import packed
from tests.values.test_values import Server, config_of, newest, oldest

pytestmark = pytest.mark.real
__all__ = ["newest", "oldest"]


@pytest.fixture(params=["newest", "oldest"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def test_conditions_meet_the_row_as_merged(server: Server) -> None:
    server.sql("""
        create domain positive as bigint check (value >= 0);
        create table t (id int primary key, balance bigint not null check (balance >= 0), p positive)
    """)
    add = {"merge": "add"}
    config = config_of({"id": {}, "balance": add, "p": add})
    assert server.refusal(config, '{"id":1,"balance":100,"p":9}') is None
    assert server.refusal(config, '{"id":1,"balance":-30,"p":-3}') is None
    assert server.refusal(config, '{"id":1,"balance":null,"p":null}') is None
    assert server.rows("select * from t") == [(1, 70, 6)]
    assert server.refusal(config, '{"id":1,"balance":-71}') == "23514"
    assert server.refusal(config, '{"id":1,"p":-7}') == "23514"
    assert server.refusal(config, '{"id":2,"balance":-1}') == "23514"


@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_an_absent_field_leaves_the_stored_value_alone(server: Server, mode: str) -> None:
    server.sql("""
        create table t (id int primary key, n serial, status text not null default 'new', name text);
        insert into t values (1, 7, 'old', 'a')
    """)
    config = config_of({"id": {}, "n": {}, "status": {}, "name": {}}, mode)
    server.apply(config, '{"id":1,"name":null}', '{"id":2,"name":"b"}', '{"id":1,"n":8}')
    new = [(2, 1, "new", "b")] if mode == "upsert" else []
    assert server.rows("select * from t order by id") == [(1, 8, "old", None), *new]


def test_in_insert_an_absent_field_is_the_default(server: Server) -> None:
    server.sql("create table t (id int primary key, status text not null default 'new')")
    config = config_of({"id": {}, "status": {}}, "insert")
    server.apply(config, '{"id":1}', '{"id":2,"status":"x"}', '{"id":2}')
    assert server.rows("select * from t order by id") == [(1, "new"), (2, "x")]
    assert server.refusal(config, '{"id":3,"status":null}') == "23502"


def test_absent_can_be_null_or_refused(server: Server) -> None:
    server.sql(
        "create table t (id int primary key, a text, b text); insert into t values (1,'a','b')"
    )
    columns: dict[str, Any] = {"id": {}, "a": {}, "b": {"missing": "reject"}}
    config = config_of(columns, missing="null")
    server.apply(config, '{"id":1,"b":"c"}')
    assert server.rows("select * from t") == [(1, None, "c")]
    assert server.refusal(config, '{"id":1}') == "refused"


def test_insert_passes_over_conflicts_of_its_key_alone(server: Server) -> None:
    server.sql("create table t (id int primary key, email text unique)")
    config = config_of({"id": {}, "email": {}}, "insert")
    server.apply(config, '{"id":1,"email":"a"}', '{"id":1,"email":"b"}')
    assert server.refusal(config, '{"id":2,"email":"a"}') == "23505"


def test_padded_keys_are_the_rows_that_they_are_in_postgres(server: Server) -> None:
    server.sql("create table t (id char(6) primary key, n int); insert into t values ('ab', 1)")
    config = config_of({"id": {}, "n": {"merge": "add"}}, "update")
    server.apply(config, '{"id":"ab    ","n":2}', '{"id":"ab","n":3}')
    assert server.rows("select n from t") == [(6,)]


def test_keys_that_postgres_alone_holds_equal_are_refused_together(oldest: Server) -> None:
    oldest.sql("""
        create extension citext; create table t (id citext primary key, n int);
        insert into t values ('a', 0)
    """)
    config = config_of({"id": {}, "n": {"merge": "add"}}, "update")
    assert oldest.refusal(config, '{"id":"a","n":1}', '{"id":"A","n":10}') == "21000"
    upsert = config_of({"id": {}, "n": {"merge": "add"}})
    assert oldest.refusal(upsert, '{"id":"b","n":1}', '{"id":"B","n":10}') == "23505"


def test_rounded_sums_do_not_depend_on_batches(server: Server) -> None:
    server.sql("create table t (id int primary key, total numeric(10,2))")
    config = config_of({"id": {}, "total": {"merge": "add"}})
    together = ['{"id":1,"total":0.004}', '{"id":1,"total":0.006}', '{"id":1,"total":0.004}']
    server.apply(config, *together)
    for value in together:
        server.apply(config, value.replace("1", "2", 1))
    assert server.rows("select total::text from t") == [("0.01",), ("0.01",)]


def test_domains_of_domains_and_stored_arrays_are_what_they_hold(server: Server) -> None:
    """A domain of a domain counted as text; an object merged onto a stored array gave an array."""
    server.sql("""
        create domain small as int check (value < 100);
        create domain smaller as small check (value < 50);
        create table t (id int primary key, n smaller, j jsonb);
        insert into t values (1, 1, '[1]'), (2, 1, 'null'), (3, 1, '{"a": 1}')
    """)
    config = config_of({"id": {}, "n": {"merge": "add"}, "j": {"merge": "jsonb"}})
    server.apply(config, *(f'{{"id":{n},"n":2,"j":{{"b":2}}}}' for n in (1, 2, 3)))
    assert server.rows("select n, j::text from t order by id") == [
        (3, '{"b": 2}'), (3, '{"b": 2}'), (3, '{"a": 1, "b": 2}')
    ]  # fmt: skip
    assert server.refusal(config, '{"id":1,"n":47}') == "23514"


def test_elements_and_bounds_of_domains_follow_the_rules_of_their_type(server: Server) -> None:
    server.sql("""
        create domain moment as timestamptz; create domain flag as bool;
        create type span as range (subtype = moment);
        create table t (id int primary key, at moment[], f flag[], s span)
    """)
    config = config_of({"id": {}, "at": {}, "f": {}, "s": {}})
    server.apply(config, '{"id":1,"at":["2026-01-01"],"f":[true],"s":"[2026-01-01,)"}')
    for wrong in (
        '"at":[1732621212]',
        '"at":["now"]',
        '"f":[1]',
        '"s":"[now,)"',
        '"s":"[1732621212Z,)"',
    ):
        assert server.refusal(config, f'{{"id":2,{wrong}}}') == "refused"


def test_keys_that_are_one_to_postgres_are_all_updated_through_a_view(oldest: Server) -> None:
    """Where MERGE can't be, ``update … from`` would take either of two rows for one target."""
    oldest.sql("""
        create extension citext; create table base (id citext primary key, n int);
        insert into base values ('a', 0); create view t as select * from base
    """)
    columns: dict[str, dict[str, Any]] = {"id": {}, "n": {"merge": "add"}}
    config = config_of(columns, "update", missing="null")
    oldest.apply(
        config, *(f'{{"id":"{key}","n":{n}}}' for key, n in (("a", 1), ("A", 10), ("a", 100)))
    )
    assert oldest.rows("select n from t") == [(111,)]


def test_a_table_is_unlogged_if_one_of_its_partitions_is(server: Server) -> None:
    server.sql("""
        create table logged (id int primary key) partition by range (id);
        create unlogged table part partition of logged for values from (1) to (2);
        create unlogged table alone (id int); create table t (id int); create view v as table t
    """)
    found = {
        name: server.run(read_table(server.connection, name)).unlogged
        for name in ("logged", "alone", "t", "v")
    }
    assert found == {"logged": True, "alone": True, "t": False, "v": False}


def test_names_follow_the_rules_of_sql(server: Server) -> None:
    server.sql('create table "Mix" (id int primary key); create table mix (id int primary key)')
    server.apply(config_of({"id": {}}, table='public."Mix"'), '{"id":1}')
    server.apply(config_of({"id": {}}, table="public.Mix"), '{"id":2}')
    assert server.rows('select id from "Mix"') == [(1,)]
    assert server.rows("select id from mix") == [(2,)]


def test_a_unique_index_may_include_more_and_a_view_is_its_tables(server: Server) -> None:
    server.sql("""
        create table t (id int, n int, primary key (id) include (n));
        create view v as select * from t
    """)
    columns: dict[str, Any] = {"id": {}, "n": {}}
    server.apply(config_of(columns), '{"id":1,"n":1}')
    server.apply(config_of(columns, table="public.v", missing="null"), '{"id":2,"n":1}')
    assert server.rows("select * from t order by id") == [(1, 1), (2, 1)]


def test_update_with_the_key_alone_and_identities_that_are_always_generated(server: Server) -> None:
    server.sql("create table t (id int generated always as identity primary key, n int)")
    server.apply(config_of({"id": {}}, "update"), '{"id":1}')
    server.apply(config_of({"id": {}, "n": {}}), '{"id":7,"n":1}', '{"id":8}')
    assert server.rows("select * from t order by id") == [(7, 1), (8, None)]


def test_a_statement_for_other_types_writes_nothing(server: Server) -> None:
    server.sql("create table t (id int primary key, at timestamp)")
    config = config_of({"id": {}, "at": {}})
    _, statements = server.made(config)
    server.sql("alter table t alter at type timestamptz")
    arrays = packed([[1], ["2024-01-01T12:00:00+02:00"]])
    tag = server.run(server.connection.execute(statements.plain["upsert"], *arrays))
    assert tag == "MERGE 0"
    assert not server.rows(f"select {statements.same_columns}")[0][0]
