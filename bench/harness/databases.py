"""The databases of a measured program: what is applied, and when it was, according to Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import attrs

from bench.harness import load

APPLIED = """\
select coalesce(sum(session_count), 0)::bigint, extract(epoch from statement_timestamp())::float8
from sessions"""
LAST_COMMIT = "select extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 from sessions"
WAL = "select (pg_current_wal_insert_lsn() - '0/0')::bigint"
NEXT_TRANSACTION = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
ROWS = "select id, session_count, (tags->>'n')::bigint from sessions"

Row = tuple[Any, ...]


@attrs.frozen
class Databases:
    """One or more databases of one server, one connection each. Every method sends a query."""

    connections: Sequence[Any]

    @classmethod
    @asynccontextmanager
    async def open(cls, dsns: Sequence[str]) -> AsyncIterator[Databases]:
        """Connect to each database and create the benches' table in it."""
        async with AsyncExitStack() as stack:
            connections = []
            for dsn in dsns:
                connections.append(await asyncpg.connect(dsn))
                stack.push_async_callback(connections[-1].close)
                await connections[-1].execute(load.TABLE)
            await connections[0].execute("checkpoint")
            yield cls(connections)

    async def applied(self) -> tuple[int, float]:
        """Return how many records are applied in all, and the time of the query (since the epoch)."""
        found = [await connection.fetchrow(APPLIED) for connection in self.connections]
        return sum(applied for applied, _ in found), found[-1][1]

    async def last_commit(self) -> float:
        """Return when the youngest row was committed, in seconds since the epoch."""
        times = [await connection.fetchval(LAST_COMMIT) for connection in self.connections]
        return float(max(time for time in times if time is not None))

    async def wal(self) -> int:
        """Return how many bytes of WAL the server has written."""
        return int(await self.connections[0].fetchval(WAL))

    async def next_transaction(self) -> int:
        """Return the next transaction id: the difference of two counts the writing transactions."""
        return int(await self.connections[0].fetchval(NEXT_TRANSACTION))

    async def wrong_rows(self, expected: dict[int, Row]) -> int:
        """Count the rows that differ from the model, are missing, unexpected, or in two databases."""
        found: dict[int, Row] = {}
        twice = 0
        for connection in self.connections:
            for key, *row in await connection.fetch(ROWS):
                twice += key in found
                found[key] = tuple(row)
        keys = expected.keys() | found.keys()
        return twice + sum(found.get(key) != expected.get(key) for key in keys)
