"""Apply records by a user's function, in a transaction that carries the ledger too."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import trio

from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.errors import HandlerFailed, Verdict, judge
from pipeline.postgres.connections.limiter import Sample
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.handlers.awaited import listening
from pipeline.postgres.handlers.transaction import Transaction
from pipeline.postgres.ledger.keys import IdempotencyKeys, Known, Selection, find_others, note
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.ledger.ledger import Ledger
from pipeline.records.record import Record

log = logging.getLogger(__name__)

Handler = Callable[[Transaction, Sequence[Record]], Awaitable[None]]
"""A user's function: see docs/handlers.md."""

Split = Callable[[Sequence[Record]], Iterator[Sequence[Record]]]
"""A batch → the runs of neighbours in it, in order: one call of the handler per run."""

CALLS_PER_CHECKPOINT = 100
"""Calls of a handler that only queues hold Trio's other tasks up: about 1 ms at a time."""


class HandlerApplier:
    """Apply records by a user's function, called once per run that ``split`` gives.

    Args:
        handler: the function.
        shard: the database that its transactions run in.
        ledger: notes the offsets within each transaction.
        keys: applies each idempotency key once; None: records' keys are not looked at.
        split: records → runs of neighbours, in order.
        apart: whether no two runs share a key, so that their statements may be sent in any order.
        called: called with a lease, how many records, and the seconds that the handler spent on them.
        details: whether what the handler's exceptions say may be logged: it may quote records.
    """

    def __init__(
        self,
        handler: Handler,
        shard: Shard,
        ledger: Ledger,
        split: Split,
        *,
        apart: bool,
        called: Callable[[Lease, int, float], None],
        keys: IdempotencyKeys | None = None,
        details: bool = False,
    ) -> None:
        self.shape = None  # a handler may read anything
        self._handler = handler
        self._shard = shard
        self._ledger = ledger
        self._keys = keys
        self._split = split
        self._apart = apart
        self._called = called
        self._details = details

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        """See `Transactions.write`.

        A checkpoint. Cancelled, it cancels the handler, rolls back, and waits for the asyncio side to
        end.

        Raises:
            HandlerFailed: the handler's own code raised; nothing was written.
        """
        if self._keys is None:
            await self._write(lease, records, records, None)
            return len(records)
        known: Known = {}
        while True:
            selection = self._keys.select(lease.claim, records, known)
            if selection.keys:
                # Before the handler is called: what it does beside the transaction is not taken back.
                ask = partial(find_others, claim=lease.claim, selection=selection)
                if others := await self._shard.run(ask):
                    known = {**known, **others}
                    continue
            if not selection.fresh:
                await self._ledger.mark(lease, records)
            elif not await self._write(lease, records, selection.fresh, selection):
                continue
            self._keys.applied(lease.claim, selection)
            return len(selection.fresh)

    async def _write(
        self,
        lease: Lease,
        records: Sequence[Record],
        fresh: Sequence[Record],
        selection: Selection | None,
    ) -> bool:
        """Call the handler for the fresh ones of records, and note them all, in one transaction.

        Return False if a key that is selected was claimed for another record meanwhile.
        """
        transaction, sample = Transaction(), Sample(len(fresh))
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._call, transaction, lease, fresh)
            try:
                await transaction.wanted.wait()
                failure = transaction.failed or await self._shard.transact(
                    partial(
                        self._transact,
                        lease=lease, records=records, selection=selection,
                        transaction=transaction, sample=sample,
                    ),
                    sample,
                )  # fmt: skip
            except Exception as error:  # raised below, outside the group that a nursery makes
                failure = error
                nursery.cancel_scope.cancel()
            if isinstance(failure, RepeatedKeys):
                nursery.cancel_scope.cancel()
        if isinstance(failure, RepeatedKeys):
            return False
        if failure is not None:
            raise failure
        return True

    async def probe(self) -> bool:
        """See `Transactions.probe`: a handler without records does nothing. A checkpoint."""
        await trio.lowlevel.checkpoint()
        return False

    async def _call(
        self, transaction: Transaction, lease: Lease, records: Sequence[Record]
    ) -> None:
        """Call the handler, run after run; what it raises ends the transaction.

        A checkpoint, once per `CALLS_PER_CHECKPOINT` calls: a handler need not be one.
        """
        run: Sequence[Record] = ()
        started = time.perf_counter()
        try:
            with listening() as check:
                for number, run in enumerate(self._split(records)):
                    if number % CALLS_PER_CHECKPOINT == 0:
                        await trio.lowlevel.checkpoint()
                    if self._apart:
                        transaction.next_call()
                    await self._handler(transaction, run)
                    check()
        except Exception as error:  # for the transaction to raise, after it has rolled back
            failed = HandlerFailed(run, error)
            _log_traceback(failed, error, self._details)
            transaction.finish(failed)
        else:
            self._called(lease, len(records), time.perf_counter() - started)
            transaction.finish()

    async def _transact(
        self,
        connection: Connection,
        lease: Lease,
        records: Sequence[Record],
        selection: Selection | None,
        transaction: Transaction,
        sample: Sample,
    ) -> HandlerFailed | RepeatedKeys | None:
        """Run the transaction of one batch: the ledger's note, then the handler's statements.

        On asyncio. The handler's own failure, and that a key is another record's, are returned instead
        of raised: the transaction is rolled back by then, and the connection is clean.
        """
        try:
            async with connection.transaction():
                if selection is None or not selection.keys:
                    await self._ledger.note(connection, lease, records)
                elif not await note(connection, lease, records, selection):
                    raise RepeatedKeys
                await transaction.serve(connection)
        except (HandlerFailed, RepeatedKeys) as failure:
            sample.clean = False
            return failure
        sample.elsewhere = transaction.elsewhere
        return None


class RepeatedKeys(Exception):
    """A key is another record's: the transaction is rolled back."""


def _log_traceback(failed: HandlerFailed, error: Exception, details: bool) -> None:
    """Log where in the handler's code an error arose: what ends the pipeline is an error itself.

    Without ``details`` there are files, lines and functions, but not what the exception says.
    """
    level = logging.ERROR if judge(failed) is Verdict.STOP else logging.DEBUG
    if details:
        log.log(level, "%s", failed, exc_info=error)
    elif log.isEnabledFor(level):
        frames = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
        log.log(level, "%s\nTraceback (most recent call last):\n%s", failed.without_values, frames)
