"""The store: every record of a batch is decided, whatever Postgres says.

This is where an error becomes a verdict (see `errors`), the same for a real database and for a
simulated one:

- retried without end, while the shard is away or busy;
- settled by the ledger first, where an answer was lost;
- halved until the guilty record stands alone, where a row was refused;
- raised, where retrying can't help.

Halves are applied one after the other, so records of one key stay in order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from pipeline.observe.metrics import Metrics
from pipeline.postgres.errors import Verdict, explain, judge, rule_for, sqlstate_of
from pipeline.postgres.ledger import Lease
from pipeline.postgres.shard import Backoff, Breaker, BreakerState
from pipeline.records import Record, TopicPartition
from pipeline.store import (
    AppliedOffsets,
    Claim,
    Fenced,
    PartitionStore,
    PipelineError,
    Rejection,
    Rejects,
    Store,
)

log = logging.getLogger(__name__)


class Transactions(Protocol):
    """What the store asks of a database; `database.Database` says what each does."""

    async def take_over(self, claim: Claim, writers: int) -> tuple[list[int], AppliedOffsets]: ...
    async def write(self, lease: Lease, records: Sequence[Record]) -> int: ...
    async def mark(self, lease: Lease, records: Sequence[Record]) -> None: ...
    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]: ...
    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None: ...


LINGER_SECONDS = 0.02


class BatchSizer:
    """How many records a transaction should hold, so that it takes about ``target`` seconds.

    The declared sink has no target: the larger the batch, the cheaper the record. A handler's calls
    run one after another in their transaction, so a slow handler gets small batches: its records
    then run on all connections at once, and neither locks nor drains wait for a long transaction.
    """

    def __init__(self, largest: int, target: float | None = None) -> None:
        self._largest = largest
        self._target = target
        self.limit = largest if target is None else 1
        self.linger = LINGER_SECONDS if target is None else 0.0
        """Seconds; a handler's records cost the same however they are batched."""

    def observe(self, records: int, seconds: float) -> None:
        """A transaction of so many records took so long."""
        if self._target is None:
            return
        fitting = int(records * self._target / max(seconds, 1e-6))
        # Grow step by step, for one quick transaction proves little; shrink at once.
        self.limit = max(1, min(fitting, self.limit * 2, self._largest))


class Turns(Protocol):
    """What the store asks of a shard beside its transactions."""

    name: str
    connections: int
    breaker: Breaker
    metrics: Metrics

    def turn(self) -> AbstractAsyncContextManager[None]: ...
    def drop_idle(self) -> None: ...


class ShardStore:
    """The store of one shard."""

    def __init__(
        self,
        shard: Turns,
        connect: Callable[[], Awaitable[Transactions]],
        rejects: Rejects,
        sizer: BatchSizer,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.shard = shard
        self._connect = connect
        self._connecting = trio.Lock()
        self._database: Transactions | None = None
        self.rejects = rejects
        self.sizer = sizer
        self._backoff = backoff
        self._clock = clock
        metrics, name = shard.metrics, shard.name
        self._apply_seconds = metrics.apply_seconds.labels(name)
        self._batch_records = metrics.batch_records.labels(name)
        self._rows_written = metrics.rows_written.labels(name)

    async def open(self, claim: Claim) -> OwnedPartition:
        """See `Store.open`."""
        writers = self.shard.connections
        attempt = 0
        while True:
            await self.shard.breaker.closed()
            try:
                database = await self._connected()
                epochs, applied = await database.take_over(claim, writers)
            except Exception as error:  # judged: what is not for retrying is raised
                await self.failed(error, attempt, f"taking over {claim.source}")
                attempt += 1
            else:
                return OwnedPartition(self, claim, epochs, applied)

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

    async def checkpoint(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """See `Store.checkpoint`. What fails is left to the next one: folding only saves space."""
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
            await self.shard.breaker.closed()
        else:
            await trio.sleep(self._backoff.seconds(attempt))

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
        self._apply_seconds.observe(seconds)
        self._batch_records.observe(records)
        self._rows_written.inc(rows)

    def now(self) -> float:
        return self._clock()


class OwnedPartition:
    """One partition's share of a shard, while it is ours: a lease for each writer."""

    def __init__(
        self, store: ShardStore, claim: Claim, epochs: Sequence[int], applied: AppliedOffsets
    ) -> None:
        self.applied = applied
        self.writers = len(epochs)
        self._store = store
        self._leases = [Lease(claim, writer, epoch) for writer, epoch in enumerate(epochs)]

    @property
    def batch_limit(self) -> int:
        """See `PartitionStore.batch_limit`."""
        return self._store.sizer.limit

    @property
    def linger(self) -> float:
        """See `PartitionStore.linger`."""
        return self._store.sizer.linger

    def turn(self) -> AbstractAsyncContextManager[None]:
        """See `PartitionStore.turn`."""
        return self._store.shard.turn()

    async def apply(self, writer: int, records: Sequence[Record]) -> None:
        """See `PartitionStore.apply`."""
        misfits = [record for record in records if record.error is not None]
        if misfits:
            records = [record for record in records if record.error is None]
            for record in misfits:
                assert record.error is not None
                await self._reject(writer, record, Rejection(record.error, "DecodeError"))
        if records:
            await self._apply(writer, records, 1)

    async def _apply(self, writer: int, records: Sequence[Record], attempts: int) -> None:
        attempt, in_doubt = 0, False
        while True:
            await self._store.shard.breaker.closed()
            try:
                if in_doubt and await self._was_committed(writer, records):
                    return
                in_doubt = False
                started = self._store.now()
                rows = await self._store.database.write(self._leases[writer], records)
                self._store.applied(len(records), rows, self._store.now() - started)
                return
            except (Fenced, PipelineError):
                raise
            except Exception as error:  # judged below: rejected, retried, or raised
                verdict = judge(error)
                if verdict is Verdict.REJECT:
                    await self._refused(writer, records, error, attempts + attempt)
                    return
                in_doubt = in_doubt or verdict is Verdict.IN_DOUBT
                await self._store.failed(error, attempt, f"applying {_described(records)}")
                attempt += 1

    async def _was_committed(self, writer: int, records: Sequence[Record]) -> bool:
        lease = self._leases[writer]
        epoch, committed = await self._store.database.resolve(lease, records)
        self._leases[writer] = Lease(lease.claim, writer, epoch)
        log.info(
            "%s: the ledger says %s", _described(records), "applied" if committed else "not applied"
        )
        return committed

    async def _refused(
        self, writer: int, records: Sequence[Record], error: Exception, attempts: int
    ) -> None:
        """Postgres refused a row: halve until it stands alone, and set it aside."""
        if len(records) > 1:
            middle = len(records) // 2
            await self._apply(writer, records[:middle], attempts + 1)
            await self._apply(writer, records[middle:], attempts + 1)
            return
        rejection = Rejection(explain(error), type(error).__name__, sqlstate_of(error), attempts)
        await self._reject(writer, records[0], rejection)

    async def _reject(self, writer: int, record: Record, rejection: Rejection) -> None:
        await self._store.rejects.put(record, rejection)
        self._store.shard.metrics.dead_letters.labels(record.topic, str(record.partition)).inc()
        attempt = 0
        while True:
            await self._store.shard.breaker.closed()
            try:
                # Marking twice does no harm, so a mark in doubt is simply made again.
                await self._store.database.mark(self._leases[writer], [record])
                return
            except (Fenced, PipelineError):
                raise
            except Exception as error:  # judged: what is not for retrying is raised
                await self._store.failed(error, attempt, f"marking {record} as a dead letter")
                attempt += 1


def _described(records: Sequence[Record]) -> str:
    first, last = records[0], records[-1]
    if len(records) == 1:
        return str(first)
    return f"{len(records)} records of {first.source} (offsets {first.offset} … {last.offset})"


class ShardedStore:
    """The stores of all shards, each partition with the one that its number belongs to."""

    def __init__(self, stores: dict[str, ShardStore], shard_of: Callable[[int], str]) -> None:
        self._stores = stores
        self._shard_of = shard_of

    async def open(self, claim: Claim) -> PartitionStore:
        """See `Store.open`; other shards' partitions do not wait for this one's."""
        return await self._stores[self._shard_of(claim.source.partition)].open(claim)

    def answers(self, source: TopicPartition) -> bool:
        """Whether a partition's shard can be reached, as far as is known."""
        shard = self._stores[self._shard_of(source.partition)].shard
        return shard.breaker.state is BreakerState.CLOSED

    async def checkpoint(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """See `Store.checkpoint`; shards are asked at once, so a slow one delays no other."""
        by_shard: dict[str, list[tuple[Claim, int]]] = {}
        for claim, watermark in watermarks:
            by_shard.setdefault(self._shard_of(claim.source.partition), []).append(
                (claim, watermark)
            )
        async with trio.open_nursery() as nursery:
            for name, share in by_shard.items():
                nursery.start_soon(self._stores[name].checkpoint, share)


def _conforms(sharded: ShardedStore) -> Store:
    return sharded
