"""A shard's transactions, as the store sees them: each is one crossing of the bridge."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import trio

from pipeline.postgres import ledger
from pipeline.postgres.bridge import Connection
from pipeline.postgres.errors import HandlerFailed
from pipeline.postgres.ledger import Lease, multirange
from pipeline.postgres.packing import packed
from pipeline.postgres.shard import Shard
from pipeline.postgres.sink import Sink, Write
from pipeline.postgres.statements import Statements
from pipeline.postgres.transaction import Transaction
from pipeline.records import Record, offset_of
from pipeline.rows import Shape
from pipeline.store import AppliedOffsets, Claim, Fenced

Handler = Callable[[Transaction, Sequence[Record]], Awaitable[None]]
Split = Callable[[Sequence[Record]], Iterator[Sequence[Record]]]


class Applier(Protocol):
    """What turns records into the statements of one transaction."""

    @property
    def shape(self) -> Shape | None:
        """See `PartitionStore.shape`."""

    async def write(self, shard: Shard, lease: Lease | None, records: Sequence[Record]) -> int:
        """Apply records in one transaction, with the ledger where there is a lease.

        Returns how many rows were sent.

        Raises:
            Fenced: the lease is void; nothing was written.
            Exception: see `errors.judge`; nothing was written unless it says in doubt.
        """


class Database:
    """The five transactions that the store needs. ``exactly_once`` False: no ledger at all."""

    def __init__(self, shard: Shard, applier: Applier, owner: str, *, exactly_once: bool) -> None:
        self._shard = shard
        self._applier = applier
        self._owner = owner
        self._exactly_once = exactly_once
        self.shape = applier.shape

    async def take_over(self, claim: Claim, writers: int) -> tuple[list[int], AppliedOffsets]:
        """Become the owner: the epoch of each writer, and what is applied."""
        if not self._exactly_once:
            return [0] * writers, AppliedOffsets()
        return await self._shard.run(
            partial(ledger.take_over, claim=claim, owner=self._owner, writers=writers)
        )

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        """Apply records and note their offsets, in one transaction; see `Applier.write`."""
        return await self._applier.write(
            self._shard, lease if self._exactly_once else None, records
        )

    async def mark(self, lease: Lease, records: Sequence[Record]) -> None:
        """Note offsets as decided, without data: their records are among the dead letters."""
        if self._exactly_once:
            await self._shard.run(partial(_mark, lease=lease, records=records))

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        """Settle a write in doubt: the writer's new epoch, and whether it was committed.

        Without a ledger nobody knows, and it is taken as not committed: at least once.
        """
        if not self._exactly_once:
            return lease.epoch, False
        offsets = [record.offset for record in records]
        return await self._shard.run(partial(ledger.resolve, lease=lease, offsets=offsets))

    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """Fold the ledger's rows of these partitions into one each."""
        if self._exactly_once:
            await self._shard.run(partial(ledger.fold, watermarks=watermarks))


def _guard(lease: Lease, records: Sequence[Record]) -> tuple[Any, ...]:
    return (*lease.parameters(), multirange(map(offset_of, records)))


async def _mark(connection: Connection, lease: Lease, records: Sequence[Record]) -> None:
    if not await connection.fetchval(ledger.MARK, *_guard(lease, records)):
        raise _fenced(lease)


def _fenced(lease: Lease) -> Fenced:
    return Fenced(f"{lease.claim.source}: writer {lease.writer} lost epoch {lease.epoch}")


class SinkApplier:
    """Applies records by the declared sink."""

    def __init__(self, sink: Sink) -> None:
        self.shape = sink.shape
        self._sink = sink
        self._statements = Statements(sink)

    async def write(self, shard: Shard, lease: Lease | None, records: Sequence[Record]) -> int:
        writes = list(self._sink.writes(records))
        if not writes:  # tombstones that the sink ignores: only their offsets
            if lease is not None:
                await shard.run(partial(_mark, lease=lease, records=records))
            return 0
        guard = None if lease is None else _guard(lease, records)
        applied = await shard.transact(partial(self._apply, guard=guard, writes=writes))
        if not applied:
            assert lease is not None, "only a fence answers no"
            raise _fenced(lease)
        return sum(write.rows for write in writes)

    async def _apply(
        self, connection: Connection, guard: tuple[Any, ...] | None, writes: list[Write]
    ) -> bool:
        if len(writes) == 1:
            return await self._first(connection, guard, writes[0])
        async with connection.transaction():
            if not await self._first(connection, guard, writes[0]):
                return False
            for write in writes[1:]:
                await connection.execute(self._statements.plain[write.kind], *packed(write.arrays))
        return True

    async def _first(
        self, connection: Connection, guard: tuple[Any, ...] | None, write: Write
    ) -> bool:
        if guard is None:
            await connection.execute(self._statements.plain[write.kind], *packed(write.arrays))
            return True
        statement = self._statements.guarded[write.kind]
        return bool(await connection.fetchval(statement, *guard, *packed(write.arrays)))


class HandlerApplier:
    """Applies records by a user's function, called once for each run that ``split`` gives.

    Args:
        handler: the function.
        split: records → runs of neighbours, in order.
        apart: no two runs share a key, so their statements may be sent in any order.
        called: told of so many records, and how many seconds their calls took.
    """

    def __init__(
        self,
        handler: Handler,
        split: Split,
        *,
        apart: bool,
        called: Callable[[int, float], None],
    ) -> None:
        self.shape = None  # a handler may read anything
        self._handler = handler
        self._split = split
        self._apart = apart
        self._called = called

    async def write(self, shard: Shard, lease: Lease | None, records: Sequence[Record]) -> int:
        """See `Applier.write`.

        Raises:
            HandlerFailed: the handler's own code raised; nothing was written.
        """
        transaction = Transaction()
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._call, transaction, records)
            try:
                await transaction.wanted.wait()
                failure = transaction.failed or await shard.transact(
                    partial(_transact, lease=lease, records=records, transaction=transaction)
                )
            except Exception as error:  # raised below, outside the group that a nursery makes
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return len(records)

    async def _call(self, transaction: Transaction, records: Sequence[Record]) -> None:
        """The handler's calls, one after another; what it raises ends the transaction."""
        run: Sequence[Record] = ()
        started = time.perf_counter()
        try:
            for run in self._split(records):
                if self._apart:
                    transaction.next_call()
                await self._handler(transaction, run)
        except Exception as error:  # for the transaction to raise, after it has rolled back
            transaction.finish(HandlerFailed(run, error))
        else:
            self._called(len(records), time.perf_counter() - started)
            transaction.finish()


async def _transact(
    connection: Connection,
    lease: Lease | None,
    records: Sequence[Record],
    transaction: Transaction,
) -> HandlerFailed | None:
    """One handler's transaction. On asyncio.

    A handler's own failure is returned: it was rolled back for, and its connection is clean.
    """
    try:
        async with connection.transaction():
            if lease is not None:
                await _mark(connection, lease, records)
            await transaction.serve(connection)
    except HandlerFailed as failure:
        return failure
    return None
