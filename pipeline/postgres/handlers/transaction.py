"""The transaction that a handler is given.

A handler runs in Trio; its statements run on the asyncio side, in the one coroutine that is the
transaction. Between them stands a queue: the handler asks, the coroutine answers. So the transaction
crosses the bridge once, however many statements it has, and is cancelled as one piece.

**It begins late.** Statements that give nothing back are queued, and until a handler asks for
something there is no transaction at all: a handler that only queues, whatever else it waits for,
holds no connection, no locks and no snapshot in Postgres meanwhile.

**It sends few statements.** What is queued is sent before the next ``fetch``, or at the end. Calls
have different keys, so no order is promised between them, and a statement of one call may stand
beside the same statement of another: the first of each call go first, then the second of each, and
those of one text are one pipelined ``executemany``. A handler of one upsert per record is so about
five times as fast as with a round trip each. The price is that an error of such a statement is raised
later, by a later call or by the commit; the records of a transaction that failed are tried again
apart, so the guilty one is found all the same.

**Only what may wait is async.** `Transaction.queue` puts a statement on a list and is a plain
function. `Transaction.execute` does the same and is a checkpoint: it gives Trio's other tasks a turn,
and lets a cancellation through. That costs several microseconds, about as much as the pipeline needs
for all else that it does with a record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import attrs
import trio

from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.errors import HandlerFailed

T = TypeVar("T")

Arguments = tuple[Any, ...]


class Transaction:
    """A transaction on the partition's shard, for one handler call at a time.

    It must not be kept or used after the handler has returned, nor from two tasks at once.
    """

    def __init__(self) -> None:
        self._queue = StatementQueue()
        self._requests: asyncio.Queue[_Request | HandlerFailed | None] = asyncio.Queue()
        self._broken: BaseException | None = None
        self.failed: HandlerFailed | None = None
        """The failure that ended the calls; None while there is none."""
        self.elsewhere = 0.0
        """Seconds that the transaction, once begun, waited for the handler instead of for Postgres."""
        self.wanted = trio.Event()
        """Set when the transaction has to begin: a query was made, or the calls are over."""

    def queue(self, query: str, *args: Any) -> None:
        """Queue a statement whose result is not needed: the fast way to write.

        The statement is sent before the next `fetch`, or when the handler has returned.

        Raises:
            asyncpg.PostgresError: an earlier statement of this transaction failed.
        """
        if self._broken is not None:
            raise self._broken
        self._queue.add(query, args)

    async def execute(self, query: str, *args: Any) -> None:
        """Queue a statement, as `queue` does, and give other tasks a turn.

        A checkpoint. Cancelled, it queues nothing.

        Raises:
            asyncpg.PostgresError: an earlier statement of this transaction failed.
        """
        await trio.lowlevel.checkpoint()
        self.queue(query, *args)

    async def executemany(self, query: str, args: Iterable[Sequence[Any]]) -> None:
        """Queue a statement for each of ``args``, and give other tasks one turn.

        A checkpoint. Cancelled, it queues nothing.

        Raises:
            asyncpg.PostgresError: an earlier statement of this transaction failed.
        """
        await trio.lowlevel.checkpoint()
        for each in args:
            self.queue(query, *each)

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Send what is queued, then run this query and return its rows (`asyncpg.Record`).

        A round trip and a checkpoint. Cancelled, it does not wait for the answer; the query may run
        all the same.

        Raises:
            asyncpg.PostgresError: this statement, or an earlier one of this transaction, failed. The
                transaction is rolled back, whatever the handler makes of the error.
        """
        rows: list[Any] = await self._ask(lambda c: c.fetch(query, *args))
        return rows

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """Like `fetch`, but return the first row alone; None if there is none."""
        return await self._ask(lambda c: c.fetchrow(query, *args))

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Like `fetch`, but return the first value of the first row; None if there is no row."""
        return await self._ask(lambda c: c.fetchval(query, *args))

    async def _ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self._broken is not None:
            raise self._broken  # `serve` has ended: nothing would answer
        request = _Request(work)
        self._requests.put_nowait(request)
        self.wanted.set()
        await request.answered.wait()
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[no-any-return]

    # What follows is for the applier, and no handler's business.

    def next_call(self) -> None:
        """Announce another call, which shares no key with those before."""
        self._queue.restart()

    def finish(self, failed: HandlerFailed | None = None) -> None:
        """Announce that the calls are over, with the failure that ended them, if any.

        No request may follow.
        """
        self.failed = failed
        self._requests.put_nowait(failed)
        self.wanted.set()

    async def serve(self, connection: Connection) -> None:
        """Answer requests until `finish`, then send what is still queued. On asyncio.

        Raises:
            HandlerFailed: the handler's own code raised.
            Exception: the first error of a statement; the handler gets it too.
        """
        while isinstance(request := await self._next(), _Request):
            try:
                await self._queue.flush(connection)
                request.result = await request.work(connection)
            except Exception as error:  # for the handler, and raised again for the transaction
                self._broken = request.error = error
                raise
            finally:
                request.answered.set()
        if request is not None:
            raise request
        await self._queue.flush(connection)

    async def _next(self) -> _Request | HandlerFailed | None:
        """Return what the handler asks for next; the wait is time elsewhere. On asyncio."""
        started = time.perf_counter()
        request = await self._requests.get()
        self.elsewhere += time.perf_counter() - started
        return request


class StatementQueue:
    """Statements that wait to be sent, by their place in the calls that queued them.

    A place is a run of one text within a call. Places are sent one after another, so each call's
    statements run in its own order; within a place, texts are sent one after another.
    """

    def __init__(self) -> None:
        self._places: list[dict[str, list[Arguments]]] = []
        self._next = 0  # the place that the next text takes
        self._text: str | None = None  # that of the last statement added
        self._last: list[Arguments] = []  # where that one is

    def add(self, query: str, args: Arguments) -> None:
        """Add one statement at its place."""
        if query != self._text:
            if self._next == len(self._places):
                self._places.append({})
            self._last = self._places[self._next].setdefault(query, [])
            self._text = query
            self._next += 1
        self._last.append(args)

    def restart(self) -> None:
        """Let what follows run beside what is queued: it starts at the first place again."""
        self._text, self._next = None, 0

    async def flush(self, connection: Connection) -> None:
        """Send everything; a place's statements of one text are pipelined. On asyncio."""
        places, self._places = self._places, []
        self.restart()
        for place in places:
            for query, queued in place.items():
                if len(queued) > 1 and queued[0]:
                    await connection.executemany(query, queued)
                else:
                    for args in queued:  # a text without arguments may be several statements
                        await connection.execute(query, *args)


@attrs.define(eq=False)
class _Request:
    work: Callable[[Connection], Awaitable[Any]]
    answered: trio.Event = attrs.field(factory=trio.Event)
    result: Any = None
    error: BaseException | None = None
