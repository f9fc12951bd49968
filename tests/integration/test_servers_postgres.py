"""The Postgres servers that tests break: versions, crash, backup, standby, pooler."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest

from pipeline.local.errors import LocalError
from pipeline.local.postgres import psql
from tests.support.pgbouncer import NewPgBouncer, pgbouncer_version
from tests.support.postgres_servers import NewPostgres, PostgresServer
from tests.support.servers import DatabaseFactory
from tests.support.standby import Failover

pytestmark = pytest.mark.real

TABLE = "create table kept (n int primary key)"


def kept(server: PostgresServer) -> list[int]:
    return [int(n) for n in server.sql("select n from kept order by n").split()]


def test_two_versions(debian_postgres: PostgresServer, new_postgres: NewPostgres) -> None:
    wheel = new_postgres()
    assert wheel.major == 18
    assert 14 <= debian_postgres.major < wheel.major


def test_debians_has_extensions_whose_errors_are_internal(debian_database: DatabaseFactory) -> None:
    dsn = debian_database()
    psql(dsn, "create extension hstore; create extension citext")
    assert psql(dsn, "select 'A'::citext = 'a'") == "t"
    with pytest.raises(LocalError, match="hstore"):
        psql(dsn, 'select \'{"a":"1"}\'::hstore')


def test_a_crash_loses_what_was_not_flushed(new_postgres: NewPostgres) -> None:
    server = new_postgres({"wal_writer_delay": "10s", "synchronous_commit": "on"})
    server.sql(f"{TABLE}; insert into kept values (1)")
    server.sql("set synchronous_commit = off; insert into kept values (2)")
    server.crash()
    assert not server.running
    server.start()
    assert kept(server) == [1]


@pytest.mark.parametrize("new_timeline", [False, True])
def test_a_restored_backup(new_postgres: NewPostgres, new_timeline: bool) -> None:
    server = new_postgres()
    server.sql(f"{TABLE}; insert into kept values (1)")
    before = server.timeline()
    backup = server.base_backup()
    server.sql("insert into kept values (2)")
    dsn = server.dsn
    server.restore(backup, new_timeline=new_timeline)
    assert server.dsn == dsn
    assert kept(server) == [1]
    assert (server.timeline() > before) is new_timeline
    server.restore(backup)  # once more: a backup is a copy
    assert kept(server) == [1]


def test_a_failover_loses_what_was_not_shipped(failover: Failover) -> None:
    dsn = failover.dsn()
    psql(dsn, f"{TABLE}; insert into kept values (1)")
    failover.standby.wait_caught_up()
    assert failover.standby.in_recovery()
    assert kept(failover.standby) == [1]
    with pytest.raises(LocalError, match="read-only"):
        failover.standby.sql("insert into kept values (9)")
    failover.standby.pause_replication()
    psql(dsn, "insert into kept values (2)")
    failover.fail_over()
    assert psql(dsn, "select n from kept") == "1"
    psql(dsn, "insert into kept values (3)")
    assert kept(failover.standby) == [1, 3]
    assert failover.standby.timeline() == 2


def test_replication_goes_on_after_a_pause(failover: Failover) -> None:
    failover.standby.pause_replication()
    failover.primary.sql(f"{TABLE}; insert into kept values (1)")
    failover.standby.resume_replication()
    failover.standby.wait_caught_up()
    assert kept(failover.standby) == [1]


def test_open_connections_stay_where_they_were(failover: Failover) -> None:
    """As with a name in DNS: for a while it led to the standby, and who came then is there still."""

    async def play() -> None:
        failover.address.lead_to(failover.standby.port)
        old = await asyncpg.connect(failover.dsn())
        failover.address.lead_to(failover.primary.port)
        new = await asyncpg.connect(failover.dsn())
        assert await old.fetchval("show transaction_read_only") == "on"
        assert await new.fetchval("show transaction_read_only") == "off"
        failover.address.cut()
        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await old.fetchval("select 1")
        await new.close()
        await old.close()

    run_asyncio(play())


def test_a_debian_failover() -> None:
    with Failover.started(version="debian") as pair:
        pair.primary.sql(TABLE)
        pair.standby.wait_caught_up()
        pair.fail_over()
        psql(pair.dsn(), "insert into kept values (1)")


def test_a_pooler_leads_to_the_server(
    debian_database: DatabaseFactory, debian_postgres: PostgresServer, new_pgbouncer: NewPgBouncer
) -> None:
    pooler = new_pgbouncer(debian_postgres)
    direct = debian_database()
    psql(direct, f"{TABLE}; insert into kept values (1)")
    psql(
        direct, "drop role if exists guest; create role guest login; grant select on kept to guest"
    )
    assert psql(pooler.dsn(direct), "select n from kept") == "1"
    as_guest = pooler.dsn(direct).replace("postgres@", "guest@")
    assert psql(as_guest, "select current_user, n from kept") == "guest|1"
    psql(direct, "drop owned by guest; drop role guest")
    assert pooler.admin("show version").startswith("PgBouncer")


def test_a_pooler_refuses_startup_parameters(
    debian_postgres: PostgresServer, new_pgbouncer: NewPgBouncer
) -> None:
    pooler = new_pgbouncer(debian_postgres)
    dsn = f"{pooler.dsn(debian_postgres.dsn)}?options=-c%20lock_timeout%3D1s"
    with pytest.raises(LocalError, match="unsupported startup parameter"):
        psql(dsn, "select 1")


@pytest.mark.parametrize("most", [0, 100])
def test_a_pooler_and_prepared_statements(
    debian_postgres: PostgresServer, new_pgbouncer: NewPgBouncer, most: int
) -> None:
    """Two clients share a server's session, and so the names of their prepared statements."""
    kept_since = (1, 21)
    if most and pgbouncer_version() < kept_since:
        pytest.skip(f"this PgBouncer, {pgbouncer_version()}, never keeps prepared statements")
    known = {} if pgbouncer_version() < kept_since else {"max_prepared_statements": most}
    pooler = new_pgbouncer(debian_postgres, default_pool_size=1, **known)
    assert pooler.keeps_prepared_statements() is (most > 0)

    async def twice() -> None:
        for _ in range(2):
            connection = await asyncpg.connect(pooler.dsn(debian_postgres.dsn))
            try:
                statement = await connection.prepare("select $1::int", name="seven")
                assert await statement.fetchval(7) == 7
            finally:
                await connection.close()

    if most:
        run_asyncio(twice())
    else:
        with pytest.raises(asyncpg.DuplicatePreparedStatementError):
            run_asyncio(twice())


def run_asyncio(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on asyncio's own loop, whatever trio-asyncio has made the default."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(work)
