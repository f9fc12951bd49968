"""The transaction that a custom handler is given.

A handler runs in Trio; its statements run on the asyncio side, in the one coroutine that is the
transaction. Between them stands a queue: the handler asks, the coroutine answers. So the transaction
crosses the bridge once, however many statements it has, and is cancelled as one piece.

``execute`` does not wait. Statements that give nothing back are queued, and those that follow each
other with the same text are sent as one pipelined ``executemany``, before the next ``fetch`` or at
the transaction's end. That makes a handler of one upsert a record about five times as fast as a round
trip each; the price is that an error of such a statement is raised later, by a later call or by the
commit. The records of a transaction that failed are tried again apart, so the guilty one is found all
the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import asyncpg
import attrs
import trio

from pipeline.postgres.bridge import Connection

T = TypeVar("T")


class Transaction:
    """An open transaction on the partition's shard, for one handler call at a time.

    It must not be kept or used after the handler has returned, nor from two tasks at once.
    """

    def __init__(self) -> None:
        self._queued: list[tuple[str, tuple[Any, ...]]] = []
        self._requests: asyncio.Queue[_Request | Exception | None] = asyncio.Queue()
        self._broken: BaseException | None = None

    async def execute(self, query: str, *args: Any) -> None:
        """Queue a statement whose result is not needed. Not a checkpoint.

        Raises:
            asyncpg.PostgresError: an earlier statement of this transaction failed.
        """
        if self._broken is not None:
            raise self._broken
        self._queued.append((query, args))

    async def executemany(self, query: str, args: Iterable[Sequence[Any]]) -> None:
        """Queue a statement for each of ``args``. Not a checkpoint."""
        for each in args:
            await self.execute(query, *each)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Run what is queued, then this query, and give its rows: a round trip, a checkpoint."""
        rows: list[asyncpg.Record] = await self._ask(lambda c: c.fetch(query, *args))
        return rows

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """As `fetch`, the first row alone."""
        row: asyncpg.Record | None = await self._ask(lambda c: c.fetchrow(query, *args))
        return row

    async def fetchval(self, query: str, *args: Any) -> Any:
        """As `fetch`, the first row's first value alone."""
        return await self._ask(lambda c: c.fetchval(query, *args))

    async def _ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self._broken is not None:
            raise self._broken  # nobody would answer
        request = _Request(work)
        self._requests.put_nowait(request)
        await request.answered.wait()
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[no-any-return]

    # What follows is the transaction's own side of the queue.

    def finish(self, error: Exception | None = None) -> None:
        """The handler has returned, or raised ``error``: no request will follow."""
        self._requests.put_nowait(error)

    async def serve(self, connection: Connection) -> None:
        """Answer requests until `finish`, then run what is still queued. On asyncio.

        Raises:
            Exception: the first error of a statement (the handler gets it too), or the handler's.
        """
        while isinstance(request := await self._requests.get(), _Request):
            try:
                await self.flush(connection)
                request.result = await request.work(connection)
            except Exception as error:  # for the handler, and raised again for the transaction
                self._broken = request.error = error
                raise
            finally:
                request.answered.set()
        if request is not None:
            raise request
        await self.flush(connection)

    async def flush(self, connection: Connection) -> None:
        """Send the queued statements, each run of one text pipelined. On asyncio."""
        queued, self._queued = self._queued, []
        for query, group in groupby(queued, itemgetter(0)):
            args = [each for _, each in group]
            if len(args) == 1:
                await connection.execute(query, *args[0])
            else:
                await connection.executemany(query, args)


@attrs.define(eq=False)
class _Request:
    work: Callable[[Connection], Awaitable[Any]]
    answered: trio.Event = attrs.field(factory=trio.Event)
    result: Any = None
    error: BaseException | None = None
