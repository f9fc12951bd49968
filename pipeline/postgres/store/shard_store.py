"""The store of one shard: what its partitions share.

How a batch of one partition is decided, whatever Postgres says of it, is told in ``shard_partition.py``; which
shard a partition belongs to, in ``store_router.py``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from pipeline.contracts.store import AppliedOffsets, Claim, DeadLetters
from pipeline.errors import PipelineError
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.backoff import Backoff
from pipeline.postgres.connections.breaker import Breaker, BreakerState
from pipeline.postgres.connections.errors import (
    HandlerFailed,
    Verdict,
    explain,
    judge,
    rule_for,
    sqlstate_of,
)
from pipeline.postgres.ledger import Lease
from pipeline.postgres.store.batch_sizer import BatchSizer
from pipeline.postgres.store.shard_partition import ShardPartition, described
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape

log = logging.getLogger(__name__)


class Transactions(Protocol):
    """What the store asks of a database; `database.Database` says what each does."""

    @property
    def shape(self) -> Shape | None: ...

    async def take_over(self, claim: Claim, writers: int) -> tuple[list[int], AppliedOffsets]: ...
    async def write(self, lease: Lease, records: Sequence[Record]) -> int: ...
    async def mark(self, lease: Lease, records: Sequence[Record]) -> None: ...
    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]: ...
    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None: ...


class Turns(Protocol):
    """What the store asks of a shard beside its transactions."""

    name: str
    slots: int
    breaker: Breaker
    metrics: Metrics

    @property
    def saturated(self) -> bool:
        """Whether all slots are taken."""

    def set_slots(self, *, slow: bool) -> None: ...
    def slot(self) -> AbstractAsyncContextManager[None]: ...
    def taking_over(self) -> AbstractAsyncContextManager[None]: ...
    def drop_idle(self) -> None: ...


class ShardStore:
    """The store of one shard."""

    def __init__(
        self,
        shard: Turns,
        connect: Callable[[], Awaitable[Transactions]],
        dead_letters: DeadLetters,
        sizer: BatchSizer,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.shard = shard
        self._connect = connect
        self._connecting = trio.Lock()
        self._database: Transactions | None = None
        self.dead_letters = dead_letters
        self.sizer = sizer
        self._backoff = backoff
        self._clock = clock
        self.put_off_now: Counter[TopicPartition] = Counter()
        """How many batches wait for a handler to be called again."""
        metrics, name = shard.metrics, shard.name
        self._apply_seconds = metrics.apply_seconds.labels(name)
        self._batch_records = metrics.batch_records.labels(name)
        self._rows_written = metrics.rows_written.labels(name)

    async def open(self, claim: Claim) -> ShardPartition:
        """See `Store.open`."""
        writers = self.shard.slots
        attempt = 0
        while True:
            await self.shard.breaker.wait_closed()
            try:
                database = await self._connected()
                async with self.shard.taking_over():
                    epochs, applied = await database.take_over(claim, writers)
            except Exception as error:  # judged: what is not for retrying is raised
                await self.failed(error, attempt, f"taking over {claim.source}")
                attempt += 1
            else:
                return ShardPartition(self, claim, epochs, applied)

    async def _connected(self) -> Transactions:
        """The database, made ready when the first partition needs it: others may be away."""
        async with self._connecting:
            if self._database is None:
                self._database = await self._connect()
            return self._database

    @property
    def database(self) -> Transactions:
        assert self._database is not None, "a partition is opened before it is used"
        return self._database

    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """See `Store.fold`. What fails is left to the next one: folding only saves space."""
        if self.shard.breaker.state is not BreakerState.CLOSED:
            return
        try:
            await self.database.fold(watermarks)
        except Exception as error:  # judged: only what is not for retrying is raised
            if judge(error) is Verdict.STOP:
                raise self._stop(error, "folding the ledger") from error
            log.warning("shard %s: the ledger was not folded: %s", self.shard.name, explain(error))

    async def failed(self, error: Exception, attempt: int, doing: str) -> None:
        """Wait before another attempt, or raise where none can help."""
        verdict = judge(error)
        if verdict not in (Verdict.RETRY, Verdict.IN_DOUBT):
            raise self._stop(error, doing) from error
        sqlstate = sqlstate_of(error) or type(error).__name__
        self.shard.metrics.retries.labels(self.shard.name, sqlstate).inc()
        log.info("shard %s: %s will be retried: %s", self.shard.name, doing, explain(error))
        if verdict is Verdict.IN_DOUBT or sqlstate.startswith("57P"):
            self.shard.drop_idle()
            self.shard.breaker.trip(explain(error))
            await self.shard.breaker.wait_closed()
        else:
            await trio.sleep(self._backoff.seconds(attempt))

    async def put_off(self, failed: HandlerFailed, attempt: int) -> None:
        """Wait before a handler is called again for what it could not do."""
        source, name = failed.records[0].source, type(failed.error).__name__
        self.shard.metrics.retries.labels(self.shard.name, f"handler: {name}").inc()
        log.warning("%s will be tried again: %s", described(failed.records), failed)
        self.put_off_now[source] += 1
        try:
            await trio.sleep(self._backoff.seconds(attempt))
        finally:
            self.put_off_now[source] -= 1

    def _stop(self, error: Exception, doing: str) -> PipelineError:
        if isinstance(error, PipelineError):
            return error
        sqlstate = sqlstate_of(error)
        why = f": {rule_for(sqlstate).reason}" if sqlstate else ""
        return PipelineError(
            f"shard {self.shard.name}, {doing}: {explain(error)}{why}",
            cause=f"shard {self.shard.name}: {explain(error)}",
        )

    def applied(self, records: int, rows: int, seconds: float) -> None:
        """Count one transaction."""
        self.sizer.observe(records, seconds)
        self.shard.set_slots(slow=self.sizer.slow)
        self._apply_seconds.observe(seconds)
        self._batch_records.observe(records)
        self._rows_written.inc(rows)

    def now(self) -> float:
        return self._clock()
