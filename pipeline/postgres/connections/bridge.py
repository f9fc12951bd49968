"""The bridge: asyncpg, which lives on asyncio, called from Trio.

trio-asyncio runs an asyncio loop inside Trio, in the same thread. Crossing it costs 30 µs, and three
things about it decide this design:

- **A transaction is one asyncio coroutine and one crossing.** An asyncio context manager entered from
  Trio is cancelled before its exit has run: Trio's cancellation stays on until the scope ends, so the
  bridged exit is cancelled at its first step, and a pool's slot is lost for ever. So acquire,
  statements, commit and release all happen on the asyncio side, in `Connections.lease`.
- **Cancelling is one edge.** The Trio scope waits for the asyncio side to end, which can be later than
  the deadline, and can be a normal return. Nobody may conclude from a scope that timed out that
  nothing was committed: that is the ledger's to say.
- **Nothing waits inside.** How many transactions run at once is decided on the Trio side, by the
  shard's limit; `lease` finds an idle connection or opens one.

A connection goes back among the idle ones only if it is known to be clean: the work returned, or
Postgres itself said no and no transaction is open. In every other case it is closed. asyncpg's own
pool is not used: its release hides behind `asyncio.shield`, its reset costs a round trip, and its
close waits without end; what is left of it here is a list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, ParamSpec, Self, TypeVar

import asyncpg
import trio_asyncio

from pipeline.config.model import Pooler, ShardConfig
from pipeline.postgres.connections.connector import CLOSE_SECONDS, Connection, Connector
from pipeline.postgres.connections.loop import take_larger_steps
from pipeline.postgres.connections.session import Session

__all__ = ["CLOSE_SECONDS", "Connection", "Connections", "Session", "cross", "open_bridge"]

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


@asynccontextmanager
async def open_bridge() -> AsyncIterator[None]:
    """The asyncio loop that all shards share; everything that crosses happens inside."""
    async with trio_asyncio.open_loop() as loop:
        loop.set_exception_handler(_tell)
        take_larger_steps(loop)
        yield


def _tell(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that nobody awaited, such as a connection's that died while it was closed.

    trio-asyncio's own handler would end the program with it. Nothing is hidden here: what a
    transaction raises is raised by `cross`, and only what no transaction asked for comes this way.
    """
    error = context.get("exception")
    log.warning("asyncio: %s: %r", context.get("message", "an error"), error)


async def cross(work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an asyncio coroutine function from Trio: one crossing.

    A checkpoint. Cancelled, it cancels the asyncio side once and waits for it to end; a normal
    return there is a normal return here.
    """
    result: T = await trio_asyncio.aio_as_trio(work)(*args, **kwargs)
    return result


class Connections:
    """The connections to one database. Used on the asyncio side only, but for `close` and `sweep`.

    The arguments are those of `Connector`.
    """

    def __init__(
        self,
        dsn: str | Callable[[], str],
        session: Session,
        pooler: Pooler = "auto",
        passfile: str | None = None,
    ) -> None:
        self._connector = Connector(dsn, session, pooler, passfile)
        self._idle: list[Connection] = []

    @classmethod
    def of(cls, shard: ShardConfig, session: Session) -> Self:
        """The connections to a shard, as it is configured."""
        return cls(shard.read_dsn, session, shard.pooler, shard.passfile)

    @property
    def entered(self) -> bool:
        """Whether a connection was ever made."""
        return self._connector.entered

    @property
    def server(self) -> str:
        """The host that was taken last, ``host:port``; empty if none was."""
        return self._connector.server

    @property
    def pooled(self) -> bool:
        """Whether the last connection goes through a pooler."""
        return bool(self._connector.pooled)

    async def lease(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run ``work`` on a connection of its own.

        Raises:
            Whatever ``work`` raises, and asyncpg's and the system's errors of connecting.
        """
        connection = self._take() or await self._connector.connect()
        clean = False
        try:
            result = await _cancellable(connection, work)
            clean = True
            return result
        except asyncpg.PostgresError:
            clean = not connection.is_closed() and not connection.is_in_transaction()
            raise
        except asyncio.CancelledError:
            # Ask the server to stop, so that locks go now and not when it next tries to answer.
            with suppress(Exception):  # the connection is terminated below in any case
                await connection.close(timeout=CLOSE_SECONDS)
            raise
        finally:
            self._give_back(connection, clean)

    def sweep(self) -> bool:
        """Forget idle connections that the server has closed; return whether there were any.

        Not a checkpoint, and on either side.
        """
        alive = [connection for connection in self._idle if not connection.is_closed()]
        lost, self._idle = len(alive) < len(self._idle), alive
        return lost

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _give_back(self, connection: Connection, clean: bool) -> None:
        if clean and not connection.is_closed():
            self._idle.append(connection)
        else:
            connection.terminate()

    async def close(self) -> None:
        """Close what is idle, politely and within `CLOSE_SECONDS`; on the asyncio side."""
        idle, self._idle = self._idle, []
        await asyncio.gather(
            *(connection.close(timeout=CLOSE_SECONDS) for connection in idle),
            return_exceptions=True,  # a connection that is already broken is as good as closed
        )

    def terminate_idle(self) -> None:
        """Drop idle connections at once: their server is gone, or they may not be trusted."""
        self._connector.forget()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()


async def _cancellable(connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run work so that cancelling it takes `CLOSE_SECONDS` at most.

    asyncpg 0.32 swallows the cancelling of an `executemany` that is writing to a full socket, and goes
    on until the command's own time-out. So work is a task of its own, and one that does not end when it
    is cancelled loses its connection. What it returns or raises all the same is the outcome: cancelled
    just too late, it was committed.
    """
    task = asyncio.ensure_future(work(connection))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:  # noqa: ASYNC103 (the task's own outcome follows)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        if not done:
            connection.terminate()
            await asyncio.wait({task})
            with suppress(Exception, asyncio.CancelledError):  # whatever it says, it was cut off
                task.result()
            raise
    return task.result()
