"""Whatever call on a leased connection is cancelled, the next lease works and nothing is left behind.

One table: a call, and how to see on the server that it is under way. Each is cancelled from Trio in
the middle, through the bridge, as a drain's deadline does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from pipeline.postgres.connections.bridge import (
    Connection,
    Connections,
    Session,
    cross,
    open_bridge,
)
from tests.support.instance import PATIENCE
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

Call = Callable[[Connection], Awaitable[object]]

SETUP = """\
create table t (id int primary key, n int);
create table parents (id int primary key);
create table children (parent int references parents deferrable initially deferred);
create function slow() returns trigger language plpgsql as $$
begin perform pg_sleep(30); return new; end $$;
create table slow_rows (id int);
create constraint trigger at_commit after insert on slow_rows deferrable initially deferred
    for each row execute function slow();
"""


async def execute(connection: Connection) -> object:
    return await connection.execute("select pg_sleep(30)")


async def execute_with_arguments(connection: Connection) -> object:
    return await connection.execute("select pg_sleep($1)", 30.0)


async def fetch(connection: Connection) -> object:
    return await connection.fetch("select pg_sleep(30) from generate_series(1, 3)")


async def fetchval(connection: Connection) -> object:
    return await connection.fetchval("select pg_sleep(30)")


async def executemany(connection: Connection) -> object:
    """In mid-write: more rows than the socket takes, and each of them sleeps."""
    rows = ((n, "x" * 10_000) for n in range(5_000))
    await connection.executemany("select pg_sleep(30), $1::int, $2::text", rows)
    return None


async def within_a_transaction(connection: Connection) -> object:
    async with connection.transaction():
        await connection.execute("insert into t values (1, 1)")
        return await connection.execute("select pg_sleep(30)")


async def commit(connection: Connection) -> object:
    """A deferred trigger makes the commit itself take long."""
    async with connection.transaction():
        await connection.execute("insert into slow_rows values (1)")
    return None


async def between_two_statements(connection: Connection) -> object:
    async with connection.transaction():
        await connection.execute("insert into t values (2, 2)")
        await asyncio.sleep(30)
    return None


CALLS: dict[str, tuple[Call, str]] = {
    "execute": (execute, "active"),
    "execute with arguments": (execute_with_arguments, "active"),
    "fetch": (fetch, "active"),
    "fetchval": (fetchval, "active"),
    "executemany in mid-write": (executemany, "active"),
    "a statement of a transaction": (within_a_transaction, "active"),
    "commit": (commit, "active"),
    "between two statements": (between_two_statements, "idle in transaction"),
}
"""The call, and the state of its backend while it runs."""

BACKENDS = "select count(*) from pg_stat_activity where application_name = 'cancelled'"


@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_call_leaves_a_usable_pool(name: str, database: DatabaseFactory) -> None:
    call, state = CALLS[name]
    dsn = database()
    psql(dsn, SETUP)
    connections = Connections(dsn, Session("cancelled"))

    def under_way() -> bool:
        return psql(dsn, f"{BACKENDS} and state = '{state}'") == "1"

    async with open_bridge():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(cross, connections.lease, call))
            reached = await trio.to_thread.run_sync(partial(wait_until, under_way, PATIENCE))
            assert reached, f"{name} is not under way"
            nursery.cancel_scope.cancel()
        with trio.fail_after(PATIENCE):
            assert await cross(connections.lease, lambda c: c.fetchval("select 42")) == 42
        gone = await trio.to_thread.run_sync(
            partial(
                wait_until, lambda: psql(dsn, f"{BACKENDS} and state <> 'idle'") == "0", PATIENCE
            )
        )
        assert gone, "something is left running on the server"
        await cross(connections.close)
    assert psql(dsn, "select count(*) from t") == "0", "what was cancelled was rolled back"


async def test_a_cancelled_connect_leaves_nothing(database: DatabaseFactory) -> None:
    """A server that accepts and says nothing; the next lease, of another address, works."""
    accepted = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        accepted.set()
        await stream.receive_some()
        await trio.sleep_forever()

    async with open_bridge(), trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, silent, [listener])
        port = listener.socket.getsockname()[1]
        dead = Connections(f"postgresql://u@127.0.0.1:{port}/d", Session("cancelled"))
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(partial(cross, dead.lease, lambda c: c.fetchval("select 1")))
                await accepted.wait()
                scope.cancel()
        assert scope.cancelled_caught
        connections = Connections(database(), Session("cancelled"))
        assert await cross(connections.lease, lambda c: c.fetchval("select 42")) == 42
        await cross(connections.close)
        nursery.cancel_scope.cancel()
