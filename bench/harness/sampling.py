"""Look at something every now and then, on a thread, until a block ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any, TypeVar

import asyncpg
import attrs

T = TypeVar("T")

Look = Callable[[Any], Awaitable[T]]
"""Given a connection to the database, what is looked at."""

SESSIONS = """\
select count(*) filter (where state <> 'idle') as busy,
       count(*) filter (where wait_event_type = 'Lock') as waiting
from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"""


@attrs.frozen
class Sessions:
    """What the sessions of a database do at a moment.

    Attributes:
        busy: those that run a statement, or have a transaction open.
        waiting: of these, those that wait for a lock.
    """

    busy: int
    waiting: int


async def sessions(connection: Any) -> Sessions:
    """Look at the sessions of a connection's database, but for its own."""
    busy, waiting = await connection.fetchrow(SESSIONS)
    return Sessions(busy, waiting)


@contextmanager
def sampling(dsn: str, look: Look[T], every: float) -> Iterator[list[tuple[float, T]]]:
    """Look every ``every`` seconds; the list grows by (seconds since the epoch, what was seen).

    What a look raises is raised when the block ends.
    """
    seen: list[tuple[float, T]] = []
    ended = Event()

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            while not ended.is_set():
                asked = time.time()
                seen.append((asked, await look(connection)))
                await asyncio.sleep(max(0.0, asked + every - time.time()))
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(lambda: asyncio.run(run()))
        try:
            yield seen
        finally:
            ended.set()
    running.result()


def within(seen: Sequence[tuple[float, T]], start: float, end: float) -> list[T]:
    """Return what was seen in a span of time."""
    return [what for at, what in seen if start <= at < end]
