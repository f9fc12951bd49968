"""A handler's transaction: when it begins, what is sent in which order, where an error comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import pytest
import trio
import trio.testing
import trio_asyncio
from hypothesis import given
from hypothesis import strategies as st

from pipeline.postgres.connections.bridge import cross
from pipeline.postgres.connections.errors import HandlerFailed
from pipeline.postgres.connections.limiter import Sample
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.handlers.applier import CALLS_PER_CHECKPOINT, HandlerApplier
from pipeline.postgres.handlers.split import runs
from pipeline.postgres.handlers.transaction import StatementQueue, Transaction
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.ledger.no_ledger import NoLedger
from pipeline.records.record import Record
from tests.support.records import record
from tests.support.stores import CLAIM

Handler = Callable[[Transaction], Awaitable[None]]
Call = Callable[[Transaction, Sequence[Record]], Awaitable[None]]
LEASE = Lease(CLAIM, 0, 0)


class FakeConnection:
    """Notes what it is sent; a statement that contains ``bad`` fails."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.transactions: list[str] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.transactions.append("begin")
        try:
            yield
        except BaseException:
            self.transactions.append("rollback")
            raise
        self.transactions.append("commit")

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


class World:
    """An applier over one fake connection."""

    def __init__(self) -> None:
        self.connection = FakeConnection()
        self.crossings = 0
        self.called: list[tuple[int, float]] = []

    async def transact(self, work: Callable[[FakeConnection], Awaitable[Any]], _: Sample) -> Any:
        """As `Shard.transact`."""
        self.crossings += 1
        return await cross(work, self.connection)

    async def apply(self, call: Call, *keys: str, apart: bool = True) -> None:
        """Apply a record of each of ``keys``, at-least-once."""
        records = [record(offset, key) for offset, key in enumerate(keys or ("k",))]

        def called(_lease: Lease, count: int, seconds: float) -> None:
            self.called.append((count, seconds))

        applier = HandlerApplier(
            call, cast("Shard", self), NoLedger(), runs, apart=apart, called=called
        )
        with trio.fail_after(5):
            assert await applier.write(LEASE, records) == len(records)

    async def call(self, handler: Handler) -> None:
        """Apply one record by a handler that does not look at it."""
        await self.apply(lambda tx, _: handler(tx))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with trio_asyncio.open_loop():
        yield World()


async def test_neighbours_of_one_text_are_pipelined_and_order_holds(world: World) -> None:
    async def handler(tx: Transaction) -> None:
        for number in range(3):
            await tx.execute("insert", number)
        await tx.execute("update", 1)
        await tx.executemany("insert", [(7,), (8,)])

    await world.call(handler)
    assert world.connection.sent == [
        ("executemany", "insert", [(0,), (1,), (2,)]),
        ("execute", "update", (1,)),
        ("executemany", "insert", [(7,), (8,)]),
    ]


async def test_queue_and_execute_send_the_same(world: World) -> None:
    async def handler(tx: Transaction) -> None:
        tx.queue("insert", 1)
        await tx.execute("insert", 2)
        tx.queue("update", 3)

    await world.call(handler)
    assert world.connection.sent == [
        ("executemany", "insert", [(1,), (2,)]),
        ("execute", "update", (3,)),
    ]


async def test_what_is_async_is_a_checkpoint() -> None:
    tx = Transaction()
    with trio.testing.assert_checkpoints():
        await tx.execute("insert", 1)
    with trio.testing.assert_checkpoints():
        await tx.executemany("insert", [(1,), (2,)])
    with trio.testing.assert_checkpoints():
        await tx.executemany("insert", [])


async def test_cancelled_it_queues_nothing(world: World) -> None:
    async def handler(tx: Transaction) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await tx.execute("insert", 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await tx.executemany("insert", [(2,)])
        tx.queue("insert", 3)

    await world.call(handler)
    assert world.connection.sent == [("execute", "insert", (3,))]


async def test_calls_that_never_wait_leave_others_their_turns(world: World) -> None:
    """A handler need not be a checkpoint; a batch of its calls is one."""
    turns = calls = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 0 < calls < 5 * CALLS_PER_CHECKPOINT  # amid the calls

    async def call(tx: Transaction, records: Sequence[Record]) -> None:
        nonlocal calls
        calls += 1
        tx.queue("insert", records[0].offset)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await world.apply(call, *map(str, range(5 * CALLS_PER_CHECKPOINT)))
        assert turns >= 3
        nursery.cancel_scope.cancel()


async def test_the_same_statements_of_several_calls_are_sent_together(world: World) -> None:
    async def call(tx: Transaction, records: Sequence[Record]) -> None:
        for each in records:
            await tx.execute("insert", each.offset)
            await tx.execute("update", each.offset)

    await world.apply(call, "a", "b", "b", "c")
    assert world.connection.sent == [
        ("executemany", "insert", [(0,), (1,), (3,)]),
        ("executemany", "update", [(0,), (1,), (3,)]),
        ("execute", "insert", (2,)),
        ("execute", "update", (2,)),
    ]


async def test_where_calls_may_share_a_key_their_statements_stay_in_order(world: World) -> None:
    async def call(tx: Transaction, records: Sequence[Record]) -> None:
        await tx.execute("insert", records[0].offset)
        await tx.execute("update", records[0].offset)

    await world.apply(call, "a", "b", apart=False)
    assert [(query, args) for _, query, args in world.connection.sent] == [
        ("insert", (0,)), ("update", (0,)), ("insert", (1,)), ("update", (1,)),
    ]  # fmt: skip


async def test_statements_without_arguments_are_sent_one_by_one(world: World) -> None:
    """Such a text may hold several statements, which a prepared one may not."""

    async def handler(tx: Transaction) -> None:
        await tx.execute("select 1; select 2")
        await tx.execute("select 1; select 2")

    await world.call(handler)
    assert world.connection.sent == [("execute", "select 1; select 2", ())] * 2


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=6), max_size=8))
def test_each_calls_statements_run_in_its_own_order(calls: list[list[tuple[str, bool]]]) -> None:
    """Whatever the calls queue, and wherever a fetch (True) sends what is queued so far."""
    connection = FakeConnection()

    async def run() -> None:
        queue = StatementQueue()
        for number, call in enumerate(calls):
            queue.restart()
            for place, (query, fetches) in enumerate(call):
                queue.add(query, (number, place))
                if fetches:
                    await queue.flush(cast("Any", connection))
        await queue.flush(cast("Any", connection))

    trio.run(run)
    sent = [
        (query, args)
        for how, query, many in connection.sent
        for args in (many if how == "executemany" else [many])
    ]
    for number, call in enumerate(calls):
        own = [(query, args[1]) for query, args in sent if args[0] == number]
        assert own == [(query, place) for place, (query, _) in enumerate(call)]
    assert len(sent) == sum(map(len, calls))


@pytest.mark.parametrize("call", ["fetch", "fetchrow", "fetchval"])
async def test_a_fetch_sends_what_is_queued_first(world: World, call: str) -> None:
    answers = []

    async def handler(tx: Transaction) -> None:
        await tx.execute("insert", 1)
        answers.append(await getattr(tx, call)("select", 2))
        await tx.execute("insert", 3)

    await world.call(handler)
    assert world.connection.sent == [
        ("execute", "insert", (1,)),
        (call, "select", (2,)),
        ("execute", "insert", (3,)),
    ]
    assert answers == [["answer to select"] if call == "fetch" else "answer to select"]
    assert world.crossings == 1


# When it begins.


async def test_it_begins_when_something_is_asked_for(world: World) -> None:
    seen = []

    async def handler(tx: Transaction) -> None:
        await tx.execute("insert", 1)
        await trio.testing.wait_all_tasks_blocked()
        seen.append(list(world.connection.transactions))
        await tx.fetchval("select")
        seen.append(list(world.connection.transactions))

    await world.call(handler)
    assert seen == [[], ["begin"]]
    assert world.connection.transactions == ["begin", "commit"]


async def test_a_handler_that_asks_for_nothing_holds_no_connection(world: World) -> None:
    async def handler(tx: Transaction) -> None:
        await tx.execute("insert", 1)
        await trio.testing.wait_all_tasks_blocked()
        assert world.crossings == 0

    await world.call(handler)
    assert (world.crossings, world.connection.transactions) == (1, ["begin", "commit"])


async def test_how_long_the_calls_took_is_told(world: World) -> None:
    async def call(tx: Transaction, records: Sequence[Record]) -> None:
        del tx, records
        await trio.sleep(0.01)

    await world.apply(call, "a", "b")
    ((count, seconds),) = world.called
    assert count == 2
    assert seconds > 0.01, "by a clock that goes on while the calls wait"


# Errors of statements.


async def test_an_error_of_a_queued_statement_comes_out_of_the_transaction(world: World) -> None:
    async def handler(tx: Transaction) -> None:
        await tx.execute("bad")

    with pytest.raises(asyncpg.DataError, match="bad"):
        await world.call(handler)
    assert world.connection.transactions == ["begin", "rollback"]


async def test_an_error_comes_out_of_the_fetch_that_met_it_and_of_the_transaction(
    world: World,
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
        await world.call(handler)
    assert caught == [raised.value]
    assert world.connection.sent == [("execute", "bad insert", ())]


async def test_an_error_of_a_statement_stays_one_whatever_the_handler_makes_of_it(
    world: World,
) -> None:
    async def handler(tx: Transaction) -> None:
        try:
            await tx.fetch("bad select")
        except asyncpg.DataError as error:
            raise ConnectionError("mine") from error

    with pytest.raises(asyncpg.DataError, match="bad select"):
        await world.call(handler)


async def test_a_handler_that_swallows_an_error_does_not_commit(world: World) -> None:
    async def handler(tx: Transaction) -> None:
        with pytest.raises(asyncpg.DataError):
            await tx.fetch("bad select")
        with pytest.raises(asyncpg.DataError):
            await tx.execute("insert")

    with pytest.raises(asyncpg.DataError, match="bad select"):
        await world.call(handler)
    assert [query for _, query, _ in world.connection.sent] == ["bad select"]
    assert world.connection.transactions == ["begin", "rollback"]


async def test_a_fetch_after_an_error_that_was_swallowed_fails_too(world: World) -> None:
    """Nobody answers any more; it must not wait for ever."""
    seen = []

    async def handler(tx: Transaction) -> None:
        for query in ("bad select", "select"):
            try:
                await tx.fetch(query)
            except asyncpg.DataError as error:
                seen.append(str(error))

    with pytest.raises(asyncpg.DataError):
        await world.call(handler)
    assert seen == ["bad select", "bad select"]


# Errors of the handler's own.


async def test_what_the_handler_raises_is_told_with_the_records_of_the_call(world: World) -> None:
    async def call(tx: Transaction, records: Sequence[Record]) -> None:
        await tx.execute("insert")
        if records[0].offset == 1:
            raise ConnectionRefusedError("not Postgres")

    with pytest.raises(HandlerFailed, match="not Postgres") as raised:
        await world.apply(call, "a", "b", "b", "c")
    assert [each.offset for each in raised.value.records] == [1, 2]
    assert isinstance(raised.value.error, ConnectionRefusedError)
    assert f"{__file__}, line" in str(raised.value)
    assert world.crossings == 0, "there was nothing to roll back"


async def test_what_the_handler_raises_after_a_fetch_is_rolled_back_for(world: World) -> None:
    async def handler(tx: Transaction) -> None:
        await tx.fetch("select")
        await tx.execute("insert")
        raise KeyError("mine")

    with pytest.raises(HandlerFailed, match="KeyError: 'mine'"):
        await world.call(handler)
    assert [query for _, query, _ in world.connection.sent] == ["select"]
    assert world.connection.transactions == ["begin", "rollback"]
    assert world.called == [], "how long a call took that failed says nothing"


# What a handler forgot to await.


async def test_a_statement_that_is_not_awaited_ends_the_transaction(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(tx: Transaction) -> None:
        tx.queue("insert", 1)
        tx.execute("insert", 2)  # type: ignore[unused-coroutine]

    with pytest.raises(HandlerFailed, match=r"Transaction.execute' was never awaited") as caught:
        await world.call(handler)
    line = handler.__code__.co_firstlineno + 2
    told = caught.value.without_values
    assert f"({__file__}, line {line}): what it would have done was not done; write await" in told
    assert world.connection.transactions == []
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("call", ["fetch", "fetchrow", "fetchval", "executemany"])
async def test_every_async_method_that_is_not_awaited_is_told(world: World, call: str) -> None:
    async def handler(tx: Transaction) -> None:
        for _ in range(2):  # Python's own warning comes once for each line
            forgotten = getattr(tx, call)("select", [(1,)])
            assert forgotten is not None

    for _ in range(2):
        with pytest.raises(HandlerFailed, match=f"Transaction.{call}' was never awaited"):
            await world.call(handler)


async def test_a_function_of_the_handlers_own_that_is_not_awaited_is_told(world: World) -> None:
    async def save(tx: Transaction) -> None:
        await tx.execute("insert", 1)

    async def handler(tx: Transaction) -> None:
        await tx.fetchval("select 1")
        save(tx)  # type: ignore[unused-coroutine]

    with pytest.raises(HandlerFailed, match=r"save' was never awaited"):
        await world.call(handler)
    assert world.connection.transactions == ["begin", "rollback"]


async def test_a_forgotten_await_elsewhere_is_no_handlers_fault(world: World) -> None:
    async def elsewhere() -> None:
        """Never runs."""

    async def handler(tx: Transaction) -> None:
        tx.queue("insert", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tx.execute, "insert", 2)

    await world.call(handler)
    with pytest.warns(RuntimeWarning, match="elsewhere' was never awaited"):
        elsewhere()  # type: ignore[unused-coroutine]
    assert world.connection.transactions == ["begin", "commit"]
