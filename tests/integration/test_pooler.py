"""Behind PgBouncer in transaction mode, with its default settings: every transaction is as a session of ours.

Its pool has one session for all, so whatever one client leaves in it, the next one finds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import pytest

import pipeline.testing
from pipeline.config.model import Pooler
from pipeline.local import Servers
from pipeline.local.postgres import psql
from pipeline.postgres.connections.bridge import (
    Connection,
    Connections,
    Session,
    cross,
    open_bridge,
)
from pipeline.postgres.ledger.lease import SERVER
from tests.integration.test_session import OF_TRANSACTIONS, PINNED
from tests.support import accounts
from tests.support.pgbouncer import NewPgBouncer, PgBouncer, pgbouncer_version
from tests.support.pipelines import Job
from tests.support.servers import DatabaseFactory
from tests.support.standby import Failover

pytestmark = pytest.mark.real

T = TypeVar("T")
Work = Callable[[Connection], Awaitable[T]]

OURS = ",".join(
    ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
     "default_transaction_isolation", "default_transaction_deferrable", "intervalstyle",
     "synchronous_commit", "timezone", "datestyle", "standard_conforming_strings",
     "array_nulls", "application_name", "tcp_keepalives_idle", "tcp_keepalives_interval",
     "tcp_keepalives_count"]
)  # fmt: skip
"""What a person would tell PgBouncer to ignore, to make us connect."""


@pytest.fixture
def direct(database: DatabaseFactory) -> str:
    return database()


@pytest.fixture
def pooler(servers: Servers, new_pgbouncer: NewPgBouncer) -> PgBouncer:
    """One session for all, and prepared statements that are lost, as in PgBouncer before 1.21."""
    known = {"max_prepared_statements": 0} if pgbouncer_version() >= (1, 21) else {}
    return new_pgbouncer(servers.postgres, default_pool_size=1, **known)


async def used(connections: Connections, *works: Work[T]) -> list[T]:
    """Do works on connections, in the bridge, and close these."""
    failure: Exception | None = None
    results: list[T] = []
    async with open_bridge():
        try:
            for work in works:
                results.append(await cross(connections.lease, work))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            failure = error  # raised outside the group that the bridge would make
        await cross(connections.close)
    if failure is not None:
        raise failure
    return results


def spoil(dsn: str, settings: dict[str, str]) -> None:
    """Leave settings in the pooler's session, as a careless client does."""
    for name, value in settings.items():
        psql(dsn, f"set {name} = '{value}'")


async def shown(connection: Connection) -> dict[str, str]:
    return {name: await connection.fetchval(f"show {name}") for name in PINNED}


async def shown_in_a_transaction(connection: Connection) -> dict[str, str]:
    async with connection.transaction():
        return await shown(connection)


async def test_the_settings_are_pinned_in_each_transaction(direct: str, pooler: PgBouncer) -> None:
    dsn = pooler.dsn(direct)
    odd = {
        f"default_{name}" if name in OF_TRANSACTIONS else name: value
        for name, (value, _) in PINNED.items()
    }
    spoil(dsn, odd)
    assert psql(dsn, "show default_transaction_isolation") == "repeatable read", "it is left there"
    found = await used(Connections(dsn, Session("pinned")), shown, shown_in_a_transaction)
    ours = {name: value for name, (_, value) in PINNED.items()}
    assert found == [ours, ours]


async def test_what_is_set_for_a_transaction_does_not_stay(direct: str, pooler: PgBouncer) -> None:
    dsn = pooler.dsn(direct)
    before = psql(dsn, "show lock_timeout; show intervalstyle; show search_path")
    session = Session("ours", lock_timeout=7.0, search_path="pg_catalog")
    await used(Connections(dsn, session), shown, shown_in_a_transaction)
    assert psql(dsn, "show lock_timeout; show intervalstyle; show search_path") == before


async def test_a_pooler_that_ignores_our_settings_is_noticed(
    servers: Servers, direct: str, new_pgbouncer: NewPgBouncer
) -> None:
    """It takes the startup parameters without a word, and the session has none of them."""
    pooler = new_pgbouncer(
        servers.postgres, default_pool_size=1, ignore_startup_parameters=OURS.lower()
    )
    dsn = pooler.dsn(direct)
    spoil(dsn, {"default_transaction_isolation": "repeatable read"})
    connections = Connections(dsn, Session("pinned"))
    found = await used(connections, shown)
    assert connections.pooled
    assert found == [{name: value for name, (_, value) in PINNED.items()}]


async def test_a_server_without_a_pooler_is_known_as_such(direct: str) -> None:
    connections = Connections(direct, Session("direct"))

    async def statements(connection: Connection) -> list[str]:
        assert type(connection) is asyncpg.Connection
        assert await connection.fetchval("select $1::int + 1", 1) == 2
        assert await connection.fetchval("select $1::int + 1", 2) == 3
        rows = await connection.fetch("select name from pg_prepared_statements where not from_sql")
        return [row["name"] for row in rows]

    ((*names,),) = await used(connections, statements)
    assert not connections.pooled
    assert len([name for name in names if name]) == 2, "both texts are prepared, and kept"


@pytest.mark.parametrize("kind", ["transaction", "none"])
async def test_the_configuration_may_say_what_is_there(
    direct: str, pooler: PgBouncer, kind: Pooler
) -> None:
    connections = Connections(pooler.dsn(direct), Session("told"), kind)
    if kind == "transaction":
        assert await used(connections, shown) == [
            {name: ours for name, (_, ours) in PINNED.items()}
        ]
    else:
        with pytest.raises(asyncpg.ProtocolViolationError, match="unsupported startup parameter"):
            await used(connections, shown)


async def test_statements_of_two_clients_do_not_meet(direct: str, pooler: PgBouncer) -> None:
    """asyncpg numbers its statements from 1 in each connection, and a session keeps the names."""
    psql(direct, "create type mood as enum ('good'); create table t (n int, m mood)")
    one, other = (Connections(pooler.dsn(direct), Session(name)) for name in ("one", "other"))

    async def work(connection: Connection) -> list[asyncpg.Record]:
        await connection.execute("insert into t values ($1, 'good')", 1)
        await connection.executemany("insert into t values ($1, $2)", [(2, "good"), (3, "good")])
        async with connection.transaction():
            statement = await connection.prepare("select n, m from t where n = any($1)")
            rows: list[asyncpg.Record] = await statement.fetch([2, 3])
            # With a type that asyncpg asks the server about, in the midst of a transaction.
            assert await connection.fetchval("select m from t limit 1") == "good"
        return rows

    async with open_bridge():
        for connections in (one, other, one, other):
            assert len(await cross(connections.lease, work)) >= 2
        await cross(one.close)
        await cross(other.close)
    assert psql(pooler.dsn(direct), "select count(*) from pg_prepared_statements") == "0"


async def test_a_statement_that_fails_leaves_a_connection_that_works(
    direct: str, pooler: PgBouncer
) -> None:
    async def fail(connection: Connection) -> int:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("select 1 / $1::int", 0)
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("insert into nowhere values (1)")
        assert not connection.is_in_transaction()
        return int(await connection.fetchval("select 1"))

    assert await used(Connections(pooler.dsn(direct), Session("fails")), fail) == [1]


async def test_settings_of_the_dsn_go_through_the_pooler_too(
    direct: str, pooler: PgBouncer
) -> None:
    dsn = f"{pooler.dsn(direct)}?search_path=app%2C%20public&connect_timeout=5&work_mem=5MB"

    async def asked(connection: Connection) -> tuple[str, str]:
        return await connection.fetchval("show search_path"), await connection.fetchval(
            "show work_mem"
        )

    assert await used(Connections(dsn, Session("dsn")), asked) == [("app, public", "5MB")]
    dsn = f"{pooler.dsn(direct)}?options=-c%20work_mem%3D5MB"
    with pytest.raises(asyncpg.InterfaceError, match=r"name the settings themselves"):
        await used(Connections(dsn, Session("dsn")), asked)


async def test_the_search_path_is_the_roles_and_not_what_another_client_left(
    direct: str, pooler: PgBouncer
) -> None:
    name = direct.rpartition("/")[2]
    psql(direct, f"alter database {name} set search_path = app, public")

    async def path(connection: Connection) -> str:
        return str(await connection.fetchval("show search_path"))

    for dsn in (direct, pooler.dsn(direct)):
        if dsn != direct:
            spoil(dsn, {"search_path": "elsewhere"})
        assert await used(Connections(dsn, Session("path")), path) == ["app, public"]
        own = Session("path", search_path="own, public")
        assert await used(Connections(dsn, own), path) == ["own, public"]


async def test_the_servers_identity_is_that_of_the_server_behind_the_pooler(
    failover: Failover, new_pgbouncer: NewPgBouncer
) -> None:
    """The pooler lives on through a failover: leases that the former server gave must be void."""
    pooler = new_pgbouncer(failover.address, default_pool_size=1)
    connections = Connections(pooler.dsn(failover.dsn()), Session("identity"))

    async def identity(connection: Connection) -> str:
        return str(await connection.fetchval(f"select {SERVER}"))

    (before,) = await used(connections, identity)
    assert before == failover.primary.sql(f"select {SERVER}")
    failover.fail_over()
    pooler.admin("reconnect")
    (after,) = await used(connections, identity)
    assert after == failover.standby.sql(f"select {SERVER}") != before


async def test_a_handler_works_through_the_pooler(direct: str, pooler: PgBouncer) -> None:
    psql(direct, "create table seen (id int primary key, n int)")
    spoil(pooler.dsn(direct), {"default_transaction_isolation": "serializable"})
    for count in (3, 6):
        async with pipeline.testing.transaction(pooler.dsn(direct), commit=True) as tx:
            for n in range(count):
                tx.queue("insert into seen values ($1, 1) on conflict (id) do nothing", n)
            await tx.executemany("update seen set n = n + $2 where id = $1", [(0, 5), (1, 7)])
            assert await tx.fetchval("select count(*) from seen where id = any($1)", [0, 1]) == 2
            assert await tx.fetchval("show transaction_isolation") == "read committed"
            assert len(await tx.fetch("select * from seen")) == count
    assert psql(direct, "select n from seen where id = 1") == "15"


@pytest.mark.parametrize("way", ["direct", "pooled"])
def test_a_table_without_a_schema_is_found_by_the_search_path_of_the_shard(
    servers: Servers, job: Job, account_dsn: str, new_pgbouncer: NewPgBouncer, way: str
) -> None:
    psql(account_dsn, "create schema app; create table app.accounts (like accounts including all)")
    pooled = new_pgbouncer(servers.postgres, default_pool_size=1).dsn(account_dsn)
    spoil(pooled, {"search_path": "public"})
    sink = accounts.SINK.replace("public.accounts", "accounts")
    job.write_config({"db0": (account_dsn if way == "direct" else pooled, "")}, sink)
    text = job.config.read_text()
    job.config.write_text(text.replace("[[shards]]", '[[shards]]\nsearch_path = "app, public"'))
    instance = job.start()
    job.produce(accounts.changes(300, keys=50, seed=1))
    job.wait_caught_up()
    assert instance.stop() == 0
    assert psql(account_dsn, "select count(*) from public.accounts") == "0"
    assert psql(account_dsn, "select count(*) > 0 from app.accounts") == "t"


def test_the_whole_pipeline_through_the_pooler(
    servers: Servers, job: Job, account_dsn: str, new_pgbouncer: NewPgBouncer
) -> None:
    """Fewer sessions than connections; two instances; partitions move under load."""
    pooler = new_pgbouncer(servers.postgres, default_pool_size=3)
    job.write_config({"db0": (pooler.dsn(account_dsn), "")})
    first = job.start()
    with job.load(accounts.changes(20_000, keys=300, seed=3), 2000) as load:
        job.wait_until(lambda: load.reached(2000) and "assigned" in first.output)
        second = job.start()
        job.wait_until(lambda: load.reached(8000) and "assigned" in second.output)
        first.kill()
        job.wait_until(lambda: load.reached(20_000))
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []
    assert "ERROR" not in second.output
    assert second.stop() == 0
