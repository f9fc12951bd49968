"""A handler's transaction: what is queued, when it is sent, and where an error comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import trio
import trio_asyncio

from pipeline.postgres.bridge import cross
from pipeline.postgres.transaction import Transaction

Handler = Callable[[Transaction], Awaitable[None]]


class FakeConnection:
    """Notes what it is sent; a statement that contains ``bad`` fails."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    async def execute(self, query: str, *args: Any) -> None:
        self._send("execute", query, args)

    async def executemany(self, query: str, args: list[tuple[Any, ...]]) -> None:
        self._send("executemany", query, args)

    async def fetch(self, query: str, *args: Any) -> list[str]:
        return [self._send("fetch", query, args)]

    async def fetchrow(self, query: str, *args: Any) -> str:
        return self._send("fetchrow", query, args)

    async def fetchval(self, query: str, *args: Any) -> str:
        return self._send("fetchval", query, args)

    def _send(self, call: str, query: str, args: Any) -> str:
        self.sent.append((call, query, args))
        if "bad" in query:
            raise asyncpg.DataError(query)
        return f"answer to {query}"


@pytest.fixture
async def connection() -> AsyncIterator[FakeConnection]:
    async with trio_asyncio.open_loop():
        yield FakeConnection()


async def run(connection: FakeConnection, handler: Handler) -> None:
    """The handler on Trio, the transaction on asyncio, as `database.HandlerApplier` joins them."""
    transaction = Transaction()

    async def call() -> None:
        try:
            await handler(transaction)
        except Exception as error:
            transaction.finish(error)
        else:
            transaction.finish()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            failure = None
            try:
                await cross(transaction.serve, connection)  # type: ignore[arg-type]
            except Exception as error:
                failure = error
                nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def test_neighbours_of_one_text_are_pipelined_and_order_holds(
    connection: FakeConnection,
) -> None:
    async def handler(tx: Transaction) -> None:
        for number in range(3):
            await tx.execute("insert", number)
        await tx.execute("update", 1)
        await tx.executemany("insert", [(7,), (8,)])
        assert connection.sent == []

    await run(connection, handler)
    assert connection.sent == [
        ("executemany", "insert", [(0,), (1,), (2,)]),
        ("execute", "update", (1,)),
        ("executemany", "insert", [(7,), (8,)]),
    ]


@pytest.mark.parametrize("call", ["fetch", "fetchrow", "fetchval"])
async def test_a_fetch_sends_what_is_queued_first(connection: FakeConnection, call: str) -> None:
    answers = []

    async def handler(tx: Transaction) -> None:
        await tx.execute("insert", 1)
        answers.append(await getattr(tx, call)("select", 2))
        await tx.execute("insert", 3)

    await run(connection, handler)
    assert connection.sent == [
        ("execute", "insert", (1,)),
        (call, "select", (2,)),
        ("execute", "insert", (3,)),
    ]
    assert answers == [["answer to select"] if call == "fetch" else "answer to select"]


async def test_an_error_of_a_queued_statement_comes_out_of_the_transaction(
    connection: FakeConnection,
) -> None:
    async def handler(tx: Transaction) -> None:
        await tx.execute("bad")

    with pytest.raises(asyncpg.DataError, match="bad"):
        await run(connection, handler)


async def test_an_error_comes_out_of_the_fetch_that_met_it_and_of_the_transaction(
    connection: FakeConnection,
) -> None:
    caught = []

    async def handler(tx: Transaction) -> None:
        await tx.execute("bad insert")
        try:
            await tx.fetchval("select")
        except asyncpg.DataError as error:
            caught.append(error)
            raise

    with pytest.raises(asyncpg.DataError, match="bad insert") as raised:
        await run(connection, handler)
    assert caught == [raised.value]
    assert connection.sent == [("execute", "bad insert", ())]


async def test_a_handler_that_swallows_an_error_does_not_commit(connection: FakeConnection) -> None:
    async def handler(tx: Transaction) -> None:
        with pytest.raises(asyncpg.DataError):
            await tx.fetch("bad select")
        with pytest.raises(asyncpg.DataError):
            await tx.execute("insert")

    with pytest.raises(asyncpg.DataError, match="bad select"):
        await run(connection, handler)
    assert [query for _, query, _ in connection.sent] == ["bad select"]


async def test_a_fetch_after_an_error_that_was_swallowed_fails_too(
    connection: FakeConnection,
) -> None:
    """Nobody answers any more; it must not wait for ever."""
    seen = []

    async def handler(tx: Transaction) -> None:
        for query in ("bad select", "select"):
            try:
                await tx.fetch(query)
            except asyncpg.DataError as error:
                seen.append(str(error))

    transaction = Transaction()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handler, transaction)
            with pytest.raises(asyncpg.DataError):
                await cross(transaction.serve, connection)  # type: ignore[arg-type]
    assert seen == ["bad select", "bad select"]


async def test_what_the_handler_raises_the_transaction_raises(connection: FakeConnection) -> None:
    async def handler(tx: Transaction) -> None:
        await tx.execute("insert")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await run(connection, handler)
    assert connection.sent == [], "what was queued is not sent: it is rolled back anyway"
