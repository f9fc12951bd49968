"""The plan of the sink's statements: prepared over an empty table, they must suit it when it has grown."""

from __future__ import annotations

import pytest

from pipeline.postgres.sink.packing import packed
from tests.values.test_rows import server
from tests.values.test_values import Server, config_of, newest, oldest

pytestmark = pytest.mark.real
__all__ = ["newest", "oldest", "server"]

ROWS = 200_000
ATTEMPTS = 12
"""More than the five after which Postgres may choose a generic plan."""


@pytest.mark.parametrize("first", [0, 50])
def test_a_statement_prepared_over_an_empty_table_reads_no_whole_table_when_it_has_grown(
    server: Server, first: int
) -> None:
    server.sql("create table t (id int primary key, n int) with (autovacuum_enabled = off)")
    config = config_of({"id": {}, "n": {"merge": "add"}})
    server.sql(f"insert into t select -100 - n, 0 from generate_series(1, {first}) n; analyze t")
    _, statements = server.made(config)
    prepared = server.run(server.connection.prepare(statements.plain["upsert"]))

    def apply(*ids: int) -> None:
        server.run(prepared.fetch(*packed([list(ids), [1] * len(ids)])))

    for number in range(ATTEMPTS):
        apply(-1 - number)
    server.sql(f"insert into t select n, 0 from generate_series(1, {ROWS}) n")

    def whole_reads() -> int:
        server.run(server.connection.execute("select pg_stat_force_next_flush()"))
        ((count,),) = server.rows(
            "select seq_tup_read from pg_stat_user_tables where relname = 't'"
        )
        return int(count)

    before = whole_reads()
    for number in range(ATTEMPTS):
        apply(*range(1 + number, 101 + number))
    assert whole_reads() - before < ROWS, "the table was read from end to end"
