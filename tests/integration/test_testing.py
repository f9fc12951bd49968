"""`pipeline.testing`: a handler of one's own, called against a real database."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import pytest
import trio

import pipeline.testing
from pipeline import HandlerReject, Record, Transaction
from pipeline.local.postgres import psql
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

TABLE = """\
create table parents (id bigint primary key);
create table seen (
    id bigint primary key, at_offset bigint,
    parent bigint references parents deferrable initially deferred
);
"""
INSERT = "insert into seen (id, at_offset) values ($1, $2)"
COUNT = "select count(*) from seen"


@pytest.fixture
def dsn(database: DatabaseFactory) -> str:
    dsn = database()
    psql(dsn, TABLE)
    return dsn


async def apply(tx: Transaction, records: Sequence[Record]) -> None:
    """Insert a row per record; refuse what has a negative id."""
    for record in records:
        if record.document["id"] < 0:
            raise HandlerReject("an id is above 0")
        tx.queue(INSERT, record.document["id"], record.offset)


def rows(*ids: int) -> list[Record]:
    return [pipeline.testing.record({"id": n}, offset=place) for place, n in enumerate(ids)]


def connected(dsn: str) -> int:
    """How many connections of a test's transaction the database has."""
    query = "select count(*) from pg_stat_activity where application_name = 'pipeline.testing'"
    return int(psql(dsn, f"{query} and datname = current_database()"))


async def test_what_was_written_is_there_until_the_end(dsn: str) -> None:
    async with pipeline.testing.transaction(dsn) as tx:
        await apply(tx, rows(7, 8))
        assert await tx.fetchval(COUNT) == 2
        await apply(tx, rows(9))
        assert await tx.fetchval(COUNT) == 3
    assert psql(dsn, COUNT) == "0"
    assert connected(dsn) == 0


async def test_it_is_committed_if_asked(dsn: str) -> None:
    async with pipeline.testing.transaction(dsn, commit=True) as tx:
        await apply(tx, rows(7, 8))
    assert psql(dsn, "select id, at_offset from seen order by id") == "7|0\n8|1"


async def test_what_the_handler_raises_is_raised_and_rolled_back(dsn: str) -> None:
    async def fail() -> None:
        async with pipeline.testing.transaction(dsn, commit=True) as tx:
            await apply(tx, rows(7))
            assert await tx.fetchval(COUNT) == 1
            await apply(tx, rows(-1))

    with pytest.raises(HandlerReject, match="above 0"):
        await fail()
    assert psql(dsn, COUNT) == "0"
    assert connected(dsn) == 0


@pytest.mark.parametrize("commit", [False, True])
async def test_an_error_of_a_queued_statement_comes_at_the_end(dsn: str, commit: bool) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        async with pipeline.testing.transaction(dsn, commit=commit) as tx:
            await apply(tx, rows(7, 7))
    assert psql(dsn, COUNT) == "0"


async def test_an_error_that_the_body_swallows_is_raised_at_the_end(dsn: str) -> None:
    swallowed = []

    async def swallow() -> None:
        async with pipeline.testing.transaction(dsn, commit=True) as tx:
            tx.queue(INSERT, 7, 0)
            try:
                await tx.fetch("select * from nowhere")
            except asyncpg.PostgresError as error:
                swallowed.append(error)

    with pytest.raises(asyncpg.UndefinedTableError) as raised:
        await swallow()
    assert swallowed == [raised.value]
    assert psql(dsn, COUNT) == "0"


async def test_an_error_of_a_statement_counts_whatever_is_made_of_it(dsn: str) -> None:
    async def disguise() -> None:
        async with pipeline.testing.transaction(dsn) as tx:
            try:
                await tx.fetch("select * from nowhere")
            except asyncpg.PostgresError as error:
                raise ConnectionError("mine") from error

    with pytest.raises(asyncpg.UndefinedTableError):
        await disguise()


async def test_a_deferred_constraint_is_checked_though_nothing_is_committed(dsn: str) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with pipeline.testing.transaction(dsn) as tx:
            tx.queue("insert into seen (id, parent) values (1, 99)")


async def test_cancelled_it_is_rolled_back(dsn: str) -> None:
    with trio.CancelScope() as scope:
        async with pipeline.testing.transaction(dsn, commit=True) as tx:
            tx.queue(INSERT, 7, 0)
            assert await tx.fetchval(COUNT) == 1
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert psql(dsn, COUNT) == "0"
    assert connected(dsn) == 0


async def test_a_database_that_is_not_there_is_told(dsn: str) -> None:
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        async with pipeline.testing.transaction(dsn + "_nowhere"):
            raise AssertionError("never reached")


def test_a_plain_script_runs_a_handler(dsn: str) -> None:
    pipeline.testing.run(apply, rows(7), dsn=dsn)
    assert psql(dsn, COUNT) == "0"
    pipeline.testing.run(apply, rows(7), dsn=dsn, commit=True)
    assert psql(dsn, COUNT) == "1"
    with pytest.raises(HandlerReject):
        pipeline.testing.run(apply, rows(-1), dsn=dsn)
    with pytest.raises(asyncpg.UniqueViolationError):
        pipeline.testing.run(apply, rows(7), dsn=dsn)
