"""What a monitoring system sees meanwhile: connections and lock waits in Postgres, and the gauges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import asyncpg
import attrs

from bench.harness.scraping import series

EVERY_SECONDS = 0.5
SESSIONS = """\
select count(*), count(*) filter (where state = 'active'),
    count(*) filter (where wait_event_type = 'Lock')
from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
    and application_name <> 'the lock'"""


@attrs.frozen
class Look:
    """One look. None: nobody answered.

    Attributes:
        at: seconds since the epoch.
        connections: to the database, of the programs.
        active: of these, those that run a statement.
        lock_waits: of these, those that wait for a lock.
        message_lag, time_lag: what the consumer's gauges said: the sum, the highest.
    """

    at: float
    connections: int | None = None
    active: int | None = None
    lock_waits: int | None = None
    message_lag: float | None = None
    time_lag: float | None = None


@contextmanager
def watching(dsn: str, gauges: str | None) -> Iterator[list[Look]]:
    """Look every half second, on a thread, until the block ends."""
    looks: list[Look] = []
    ended = Event()
    thread = Thread(target=lambda: asyncio.run(_watch(dsn, gauges, looks, ended)))
    thread.start()
    try:
        yield looks
    finally:
        ended.set()
        thread.join()


async def _watch(dsn: str, gauges: str | None, looks: list[Look], ended: Event) -> None:
    connection: asyncpg.Connection[asyncpg.Record] | None = None
    while not ended.is_set():
        look = Look(time.time())
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if connection is None or connection.is_closed():
                connection = await asyncpg.connect(dsn, timeout=2, command_timeout=2)
            found = await connection.fetchrow(SESSIONS)
            assert found is not None, "an aggregate has a row"
            look = attrs.evolve(look, connections=found[0], active=found[1], lock_waits=found[2])
        if gauges is not None:
            lag = await asyncio.to_thread(series, gauges, "pipeline_message_lag")
            age = await asyncio.to_thread(series, gauges, "pipeline_time_lag_seconds")
            look = attrs.evolve(
                look,
                message_lag=sum(lag.values()) if lag else None,
                time_lag=max(age.values()) if age else None,
            )
        looks.append(look)
        await asyncio.sleep(EVERY_SECONDS)
    if connection is not None:
        connection.terminate()
