"""Test a handler of one's own: call it with made records, in a real transaction that is rolled back.

In Trio (with pytest-trio, say), with as many calls and queries as the test needs::

    async with pipeline.testing.transaction(dsn) as tx:
        await apply(tx, [pipeline.testing.record({"id": 7}, key="user-7")])
        assert await tx.fetchval("select count(*) from seen") == 1

or from a plain script, one call::

    pipeline.testing.run(apply, [pipeline.testing.record({"id": 7})], dsn=dsn)

The transaction is the one that `pipeline run` gives a handler, with the same settings of its
connection, and without the ledger. What the handler raises is raised here: nothing is tried again, and
nothing becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import orjson
import trio

from pipeline.postgres.connections.bridge import (
    Connection,
    Connections,
    Session,
    cross,
    open_bridge,
)
from pipeline.postgres.connections.errors import HandlerFailed
from pipeline.postgres.handlers.awaited import listening
from pipeline.postgres.handlers.transaction import Transaction
from pipeline.records.record import Record, TopicPartition

__all__ = ["record", "run", "transaction"]

Handler = Callable[[Transaction, Sequence[Record]], Awaitable[None]]


@attrs.frozen
class _Message:
    """What a Kafka decoder yields for one message, made by hand."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def record(
    document: Any,
    *,
    key: str | bytes | None = None,
    offset: int = 0,
    topic: str = "test",
    partition: int = 0,
    headers: Sequence[tuple[str, bytes | None]] = (),
    timestamp: int = 0,
) -> Record:
    """Make a record as a handler is given it.

    Args:
        document: the value: anything that JSON can hold. None makes a tombstone.
        key: the message key; a text stands for its UTF-8.
        offset: the record's place in its partition.
        topic: the topic's name.
        partition: the partition's number.
        headers: names and values, in order.
        timestamp: milliseconds since the epoch.

    Raises:
        TypeError: JSON can't hold ``document``.
    """
    value = None if document is None else orjson.dumps(document)
    found = None if value is None else orjson.loads(value)
    encoded = key.encode() if isinstance(key, str) else key
    message = _Message(offset, timestamp, encoded, value, headers)
    ordering = None if encoded is None else encoded.decode("utf-8", "surrogateescape")
    return Record(TopicPartition(topic, partition), offset, message, found, ordering)


@asynccontextmanager
async def transaction(dsn: str, *, commit: bool = False) -> AsyncIterator[Transaction]:
    """Open a transaction for a handler; in Trio.

    Entering connects: a checkpoint. Leaving sends what is still queued and checks the constraints
    that are deferred, then rolls back, or commits if asked: a checkpoint too. If the body raises or is
    cancelled, the transaction is rolled back in any case.

    Args:
        dsn: the address of the database, ``postgresql://USER@HOST:5432/DATABASE``.
        commit: whether what was written stays.

    Raises:
        NotAwaited: the body called an async function, such as ``tx.execute``, without ``await``.
        asyncpg.PostgresError: a statement failed, also if the body has swallowed the error: in such a
            transaction nothing more can be done, and `pipeline run` would not commit it either.
        OSError: the database can't be reached.
    """
    tx, begun = Transaction(), trio.Event()
    of_body: Exception | None = None
    of_statement: Exception | None = None
    async with open_bridge(), trio.open_nursery() as nursery:

        async def serve() -> None:
            nonlocal of_statement
            try:
                await cross(_serve, dsn, tx, begun, commit)
            except HandlerFailed:
                pass  # it stands for what the body raised
            except Exception as error:
                of_statement = error
                begun.set()

        nursery.start_soon(serve)  # noqa: ASYNC113 (begun is waited for)
        await begun.wait()
        if of_statement is None:
            try:
                with listening() as check:
                    yield tx
                    check()
            except Exception as error:
                of_body = error
                tx.finish(HandlerFailed((), error))
            else:
                tx.finish()
    # Raised here, outside the group that a nursery makes. That of a statement came first.
    if failure := of_statement or of_body:
        raise failure


async def _serve(dsn: str, tx: Transaction, begun: trio.Event, commit: bool) -> None:
    """Run the whole transaction, on a connection of its own. On asyncio."""
    connections = Connections(dsn, Session("pipeline.testing"))
    try:
        await connections.lease(partial(_transact, tx=tx, begun=begun, commit=commit))
    finally:
        await connections.close()  # noqa: ASYNC102 (on asyncio)


class _Unwanted(Exception):
    """Raised where a transaction has come to its end and is not to be committed."""


async def _transact(
    connection: Connection, tx: Transaction, begun: trio.Event, commit: bool
) -> None:
    """Serve the handler; commit only if asked. On asyncio."""
    try:
        async with connection.transaction():
            begun.set()
            await tx.serve(connection)
            await connection.execute("set constraints all immediate")
            if not commit:
                raise _Unwanted
    except _Unwanted:
        pass


def run(handler: Handler, records: Sequence[Record], *, dsn: str, commit: bool = False) -> None:
    """Call a handler once with ``records``, in a transaction of its own, from a plain script.

    It raises what the handler raises, and what `transaction` raises; and it must not be called where
    Trio runs already: use `transaction` there.
    """

    async def call() -> None:
        async with transaction(dsn, commit=commit) as tx:
            await handler(tx, records)

    trio.run(call)
