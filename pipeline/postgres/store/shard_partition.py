"""The store: every record of a batch is decided, whatever Postgres says.

This is where an error becomes a verdict (see `errors`), the same for a real database and for a
simulated one:

- retried without end, while the shard is away or busy;
- settled by the ledger first, where an answer was lost;
- halved until the guilty record stands alone, where a row was refused;
- raised, where retrying can't help.

Halves are applied one after the other, so records of one key stay in order.

A handler's own failure says nothing of the shard, and names the records of the call that failed. So
they are set aside and the others applied at once; then they are tried again, with a wait that grows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from pipeline.contracts.store import AppliedOffsets, Claim, DeadLetters, Fenced, ServerChanged
from pipeline.errors import PipelineError
from pipeline.postgres.connections.errors import (
    HandlerFailed,
    Verdict,
    explain,
    judge,
    sqlstate_of,
)
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.store.batch_sizer import BatchSizer
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.recovery import Recovery, described
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record

log = logging.getLogger(__name__)


class ShardPartition:
    """One partition's share of a shard, while it is ours: a lease for each writer.

    Args:
        claim: the partition.
        epochs: by writer, as the take-over gave them.
        applied: what was applied then.
        shard: its slots and its breaker.
        database: its transactions.
        sizer: how large batches are.
        recovery: what follows an error.
        dead_letters: where records go that can never be applied.
    """

    def __init__(
        self,
        claim: Claim,
        epochs: Sequence[int],
        applied: AppliedOffsets,
        *,
        shard: Shard,
        database: Transactions,
        sizer: BatchSizer,
        recovery: Recovery,
        dead_letters: DeadLetters,
    ) -> None:
        self.applied = applied
        self.writers = len(epochs)
        self.shape = database.shape
        self._leases = [Lease(claim, writer, epoch) for writer, epoch in enumerate(epochs)]
        self._shard = shard
        self._database = database
        self._sizer = sizer
        self._recovery = recovery
        self._dead_letters = dead_letters

    @property
    def lease(self) -> Lease:
        """The first writer's lease, as it is now: it stands for the partition's."""
        return self._leases[0]

    @property
    def batch_limit(self) -> int:
        """See `PartitionStore.batch_limit`."""
        full = self._shard.limiter.saturated
        return self._sizer.limit if full else self._sizer.spreading

    @property
    def linger(self) -> float:
        """See `PartitionStore.linger`."""
        return self._sizer.linger

    def slot(self) -> AbstractAsyncContextManager[None]:
        """See `PartitionStore.slot`."""
        return self._shard.limiter.slot()

    async def apply(self, writer: int, records: Sequence[Record]) -> None:
        """See `PartitionStore.apply`."""
        try:
            for record in records:
                if record.disposition is not None:
                    await self._reject(writer, record, record.disposition)
            records = [record for record in records if record.disposition is None]
            if records:
                await self._apply(writer, records)
        except Fenced as fenced:
            if await self._server_changed(writer):
                raise ServerChanged(str(fenced)) from fenced
            raise

    async def _server_changed(self, writer: int) -> bool:
        """Whether the lease is void because the database is another one, as far as it tells."""
        try:
            return bool(await self._database.voided([self._leases[writer]]))
        except Exception as error:  # asked again when the partition is taken over
            log.info("whose fault a void lease is was not told: %s", explain(error))
            return False

    async def _apply(self, writer: int, records: Sequence[Record]) -> None:
        """Until all are decided. What a handler can't do yet waits until the others are."""
        todo: list[tuple[Sequence[Record], int]] = [(records, 1)]  # parts; the next one is last
        held: set[int] = set()  # offsets
        waits = 0
        while todo or held:
            if not todo:
                todo, held = [([r for r in records if r.offset in held], 1)], set()
            part, attempts = todo.pop()
            outcome = await self._decide(writer, part, attempts)
            if isinstance(outcome, HandlerFailed):
                rest = [*part, *(r for other, _ in reversed(todo) for r in other)]
                held |= _held_up(rest, outcome.records)
                rest = [record for record in rest if record.offset not in held]
                todo = [(rest, attempts)] if rest else []
                await self._recovery.put_off(outcome, waits)
                waits += 1
            else:
                todo += [(smaller, attempts + 1) for smaller in reversed(outcome)]

    async def _decide(
        self, writer: int, records: Sequence[Record], attempts: int
    ) -> Sequence[Sequence[Record]] | HandlerFailed:
        """Apply records or keep them; or tell what to do instead: smaller parts, or to call later."""
        attempt, in_doubt = 0, False
        while True:
            await self._shard.breaker.wait_closed()
            try:
                if in_doubt and await self._was_committed(writer, records):
                    return ()
                in_doubt = False
                started = self._recovery.now()
                rows = await self._database.write(self._leases[writer], records)
                self._recovery.applied(len(records), rows, self._recovery.now() - started)
                return ()
            except (Fenced, PipelineError):
                raise
            except Exception as error:  # judged below: rejected, retried, or raised
                verdict = judge(error)
                if verdict is Verdict.REJECT:
                    return await self._refused(writer, records, error, attempts + attempt)
                guilty = records
                if isinstance(error, HandlerFailed):
                    if verdict is Verdict.RETRY:
                        return error
                    guilty = error.records
                in_doubt = in_doubt or verdict is Verdict.IN_DOUBT
                await self._recovery.failed(error, attempt, f"applying {described(guilty)}")
                attempt += 1

    async def _was_committed(self, writer: int, records: Sequence[Record]) -> bool:
        lease = self._leases[writer]
        epoch, committed = await self._database.resolve(lease, records)
        self._leases[writer] = Lease(lease.claim, writer, epoch)
        log.info(
            "%s: the ledger says %s", described(records), "applied" if committed else "not applied"
        )
        return committed

    async def _refused(
        self, writer: int, records: Sequence[Record], error: Exception, attempts: int
    ) -> Sequence[Sequence[Record]]:
        """A record is at fault: parts of them to find it in, until it stands alone and is kept."""
        cause: Exception = error
        if isinstance(error, HandlerFailed):
            cause = error.error
            if len(error.records) < len(records):
                return _around(records, error.records)
        if len(records) > 1:
            middle = len(records) // 2
            return records[:middle], records[middle:]
        rejection = DeadLetterReason(
            explain(cause), type(cause).__name__, sqlstate_of(cause), attempts
        )
        await self._reject(writer, records[0], rejection)
        return ()

    async def _reject(self, writer: int, record: Record, rejection: DeadLetterReason) -> None:
        await self._dead_letters.put(record, rejection)
        self._shard.metrics.dead_letters.labels(record.topic, str(record.partition)).inc()
        attempt = 0
        while True:
            await self._shard.breaker.wait_closed()
            try:
                # Marking twice does no harm, so a mark in doubt is simply made again.
                await self._database.mark(self._leases[writer], [record])
                return
            except (Fenced, PipelineError):
                raise
            except Exception as error:  # judged: what is not for retrying is raised
                await self._recovery.failed(error, attempt, f"marking {record} as a dead letter")
                attempt += 1


def _around(records: Sequence[Record], run: Sequence[Record]) -> list[Sequence[Record]]:
    """What stands before a run, the run, and what stands after it; none of them empty."""
    start = next(place for place, record in enumerate(records) if record is run[0])
    end = start + len(run)
    return [part for part in (records[:start], records[start:end], records[end:]) if part]


def _held_up(records: Sequence[Record], run: Sequence[Record]) -> set[int]:
    """The offsets of a run, and of those after it that must not be applied before it."""
    keys: set[object] = set()
    offsets: set[int] = set()
    first = run[0].offset
    for record in records:
        own = record.ordering if type(record.ordering) is tuple else (record.ordering,)
        if record.offset == first or not keys.isdisjoint(own):
            keys.update(own)
            offsets.add(record.offset)
    return offsets | {record.offset for record in run}
