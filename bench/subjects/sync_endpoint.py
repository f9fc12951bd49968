"""The synchronous endpoint of `bench.sync_async`: each request writes to Postgres through a pool.

As a careful user would write it with Starlette, uvicorn and asyncpg: a pool of bounded size, one
transaction a request, time-outs on the wait for a connection and on each statement, 503 for what can't
be written. Runs in the peers' environment: ``python -m bench.subjects.sync_endpoint PORT DSN``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
import uvicorn  # type: ignore[import-not-found, unused-ignore]
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CONNECTIONS = 20
WAIT_SECONDS = 5.0
"""For a connection of the pool, and for a statement."""

INSERT = "insert into writes (n, app) values ($1, $2)"
UPDATE = "update parents set total = total + 1 where app = $1"


def application(dsn: str) -> Starlette:
    """Make the application."""

    @asynccontextmanager
    async def pooled(app: Starlette) -> AsyncIterator[None]:
        app.state.pool = await asyncpg.create_pool(
            dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, command_timeout=WAIT_SECONDS
        )
        yield
        app.state.pool.terminate()

    return Starlette(routes=[Route("/records", take, methods=["POST"])], lifespan=pooled)


async def take(request: Request) -> Response:
    """Write a record, and answer when it is committed."""
    record: dict[str, Any] = orjson.loads(await request.body())
    pool: Any = request.app.state.pool
    try:
        async with pool.acquire(timeout=WAIT_SECONDS) as connection, connection.transaction():
            await connection.execute(INSERT, record["n"], record["app"])
            await connection.execute(UPDATE, record["app"])
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Response(type(error).__name__, 503)
    return Response(b'{"written":true}', 201, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop",
        http="httptools", access_log=False, log_level="warning", timeout_keep_alive=60,
    )  # fmt: skip
