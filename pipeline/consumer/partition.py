"""One assigned partition: its nursery, its cancel scope, and everything that happens to its records.

    feed      fetched batches → backlog; pauses the partition when it is full
    writer ×n a slot at the shard → backlog decoded into key channels → a batch of ready ones → the
              store → offsets done

A batch goes at once where none is in flight, and waits to grow where one is (Nagle's algorithm): small
and immediate when there is little to do, large when there is much.

It lives as long as the assignment: made when the partition is assigned, drained when it is revoked,
cancelled when it is lost. What comes back late belongs to an object that is gone, and changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from uuid import UUID

import attrs
import trio

from pipeline.consumer.backlog import Backlog
from pipeline.consumer.buffer_budget import BufferBudget, Share
from pipeline.consumer.channels import Batch, Channels
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.consumer.request_batching import RequestBatcher
from pipeline.consumer.starting_offset import starting_offset
from pipeline.contracts.kafka import Consumer, Position
from pipeline.contracts.store import Claim, Fenced, PartitionStore, Store
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import Decoder
from pipeline.records.record import RawBatch, RawRecord, TopicPartition
from pipeline.records.rows import Shape

log = logging.getLogger(__name__)

DECODE_AT_ONCE = 500
"""Records decoded before other tasks get their turn: 1 to 2 ms."""

RESUMED_AT = 0.5
"""How full a partition that was paused may be when it is resumed."""


class Phase(Enum):
    """Where a partition task is in its life."""

    OPENING = "taking over"
    RUNNING = "running"
    DRAINING = "draining"
    ENDED = "ended"


@attrs.frozen
class PartitionContext:
    """What all partition tasks share."""

    consumer: Consumer
    store: Store
    group: str
    decoder: Callable[[Shape | None], Decoder]
    make_channels: Callable[[], Channels]
    metrics: Metrics
    budget: BufferBudget
    unfold: Callable[[str, int], set[int]] | None = None
    """Committed metadata and its offset → offsets applied above it; None where the store knows them."""
    positions: RequestBatcher[TopicPartition, Position] = attrs.field(init=False)
    """Where partitions stand: those that are assigned at once are asked for together."""
    topic_ids: RequestBatcher[str, UUID] = attrs.field(init=False)

    @positions.default
    def _gather_positions(self) -> RequestBatcher[TopicPartition, Position]:
        return RequestBatcher(self.consumer.positions)

    @topic_ids.default
    def _gather_topic_ids(self) -> RequestBatcher[str, UUID]:
        async def ask(topics: Collection[str]) -> dict[str, UUID]:
            return {topic: await self.consumer.topic_id(topic) for topic in topics}

        return RequestBatcher(ask)


class PartitionTask:
    """The task tree of one assigned partition."""

    def __init__(
        self, source: TopicPartition, context: PartitionContext, assignment_id: int
    ) -> None:
        self.source = source
        self.assignment_id = assignment_id
        """Grows with each assignment, so that two of one partition are told apart."""
        self.phase = Phase.OPENING
        self.fenced = False
        self.claim: Claim | None = None
        self.offsets = OffsetTracker(None)
        self.channels = context.make_channels()
        self.log_start: int | None = None
        self.log_end: int | None = None
        self.group_offset: int | None = None
        """Where the group stands by Kafka, while the take-over lasts and nothing better is known."""
        self.ended = trio.Event()
        self._context = context
        self._decode: Decoder  # once the store is open
        self._scope = trio.CancelScope()
        self._backlog = Backlog()
        self._share = Share(context.budget)
        self._hungry = trio.lowlevel.ParkingLot()  # writers that found nothing to take
        self._grown = trio.lowlevel.ParkingLot()  # the one writer whose batch waits to grow
        self._batches = 0  # in flight
        self._idle = trio.Event()
        self._paused = False
        labels = (source.topic, str(source.partition))
        self._records_applied = context.metrics.records_applied.labels(*labels)
        self._duplicates = context.metrics.duplicates_skipped.labels(*labels)
        self._end_to_end = context.metrics.end_to_end_seconds

    # The life of the task

    async def run(self) -> None:
        """Take over, then apply records until drained or cancelled. Fenced, it ends quietly.

        Raises:
            PipelineError: retrying can't help; the whole program ends.
        """
        try:
            with self._scope:
                store = await self._open()
                if self.phase is Phase.OPENING:
                    self.phase = Phase.RUNNING
                    await self._work(store)
        finally:
            self._share.hold(0, 0)
            self.phase = Phase.ENDED
            self.ended.set()

    async def _open(self) -> PartitionStore:
        """Own the partition in the store, learn what is applied, and start fetching from there."""
        context, source = self._context, self.source
        claim = Claim(context.group, source, await context.topic_ids.get(source.topic))
        store = await context.store.open(claim)
        self._decode = context.decoder(store.shape)
        position = await context.positions.get(source)
        start, skipped = starting_offset(source, store.applied, position)
        self._duplicates.inc(skipped)
        applied = store.applied.offsets_from(start or 0)
        if context.unfold is not None and position.committed is not None:
            applied |= context.unfold(position.metadata, position.committed)
        self.offsets = OffsetTracker(start, applied)
        self.claim = claim
        self.log_start, self.log_end = position.start, position.end
        if self.phase is Phase.OPENING:
            context.consumer.seek_and_resume(source, start)
        return store

    async def _work(self, store: PartitionStore) -> None:
        try:
            async with trio.open_nursery() as nursery:
                for writer in range(store.writers):
                    nursery.start_soon(self._writer, store, writer)
        except* Fenced as group:
            self.fenced = True
            log.warning("%s: another instance has taken over: %s", self.source, group.exceptions[0])

    async def drain(self, deadline: float) -> None:
        """Finish what is in flight, drop what waits, and end; cancelled at ``deadline``.

        ``deadline`` is absolute, on Trio's clock. A checkpoint; returns when the task has ended.
        """
        if self.phase in (Phase.OPENING, Phase.ENDED):
            self._scope.cancel()
        else:
            self.phase = Phase.DRAINING
            dropped = self._backlog.clear() + self.channels.clear()
            self._wake_if_idle()
            with trio.move_on_at(deadline):
                await self._idle.wait()
            if self.channels.in_flight:
                log.warning(
                    "%s: %d records are still in flight at the deadline; cancelling them, the next "
                    "owner reads them again", self.source, self.channels.in_flight,
                )  # fmt: skip
            log.debug("%s: drained, %d waiting records left", self.source, dropped)
            self._scope.cancel()
        await self.ended.wait()

    async def cancel(self) -> None:
        """End at once: whatever is in flight is rolled back, or known to the ledger."""
        self.phase = Phase.DRAINING
        self._scope.cancel()
        await self.ended.wait()

    # Records in

    def feed(self, batches: Sequence[RawBatch]) -> None:
        """Hand over what was fetched, in offset order. Not a checkpoint.

        Raises:
            PipelineError: it can't be decoded.
        """
        if self.phase is Phase.RUNNING:
            self._backlog.add(batches)
            if self.offsets.oldest_timestamp is None:
                self._file(self._backlog.take(1))  # its timestamp is the partition's time lag
            self._wake_a_writer()
            self._balance()

    @property
    def buffered(self) -> int:
        """Records held here: not yet decoded, waiting in channels, or in flight."""
        return self._backlog.records + self.channels.waiting + self.channels.in_flight

    def _balance(self) -> None:
        """Pause the partition when it is full, resume it when half of that is gone."""
        decoded = self.channels.waiting + self.channels.in_flight
        size = self._backlog.bytes + decoded * self._backlog.record_bytes
        self._share.hold(self.buffered, size)
        fullness = self._share.fullness
        if self._paused and fullness <= RESUMED_AT:
            self._paused = False
            self._context.consumer.resume(self.source)
        elif not self._paused and fullness >= 1.0:
            self._paused = True
            self._context.consumer.pause(self.source)

    def _at_once(self, records: int) -> int:
        """So many records, or fewer where they are large."""
        return self._context.budget.at_once(records, self._backlog.record_bytes)

    def _file(self, raws: Sequence[RawRecord]) -> None:
        if self.phase is not Phase.RUNNING:
            return  # woken before the drain began: start nothing new
        decoded = self._decode(self.source, raws)
        fresh = self.offsets.admit(decoded)
        if len(fresh) < len(decoded):
            self._duplicates.inc(len(decoded) - len(fresh))
        self.channels.put(fresh)
        self._balance()

    # Writers

    async def _writer(self, store: PartitionStore, number: int) -> None:
        while True:
            while not self._startable or self._grown:
                await self._hungry.park()
            await self._gather(store)
            await self._write(store, number)

    async def _write(self, store: PartitionStore, number: int) -> None:
        """Apply a batch, where there is one.

        A call of its own: a writer that waits for the next batch must not hold the last one. With 256
        partitions that would be up to a batch for each of a thousand writers.
        """
        async with store.slot():
            await self._top_up(store)
            batch = self.channels.take(self._limit(store))
            self._wake_a_writer()
            if batch.records:
                await self._apply(store, number, batch)

    async def _gather(self, store: PartitionStore) -> None:
        """Wait for a full batch, for the end of those in flight, or for as long as it may linger."""
        with trio.move_on_after(store.linger):
            while self._batches and not self._full(store):
                await self._grown.park()

    @property
    def _startable(self) -> int:
        """How many records a batch would start from at most: some may be of keys in flight."""
        return self.channels.ready + self._backlog.records

    def _full(self, store: PartitionStore) -> bool:
        return self._startable >= self._limit(store)

    async def _top_up(self, store: PartitionStore) -> None:
        """Decode what makes the batch full, now that it goes.

        Not earlier: fresh records are in the caches, and what many partitions hold stays small.
        Records of keys that are in flight don't count: behind them may be others that could run.
        """
        while self._backlog.records and self.channels.ready < self._limit(store):
            self._file(self._backlog.take(self._at_once(DECODE_AT_ONCE)))
            await trio.lowlevel.checkpoint()

    def _limit(self, store: PartitionStore) -> int:
        return self._at_once(store.batch_limit)

    async def _apply(self, store: PartitionStore, number: int, batch: Batch) -> None:
        self._batches += 1
        try:
            await store.apply(number, batch.records)
        finally:
            self._batches -= 1
        self._finish(batch)

    def _wake_a_writer(self) -> None:
        """One is enough: having taken its batch, it wakes the next if anything is left."""
        if self._grown:
            self._grown.unpark()
        elif self._startable:
            self._hungry.unpark()

    def _finish(self, batch: Batch) -> None:
        self.offsets.done(batch.records)
        self.channels.done(batch)
        self._wake_a_writer()
        self._records_applied.inc(len(batch.records))
        self._end_to_end.observe_ages(
            [record.raw.timestamp for record in batch.records], time.time()
        )
        self._balance()
        self._wake_if_idle()

    def _wake_if_idle(self) -> None:
        if self.phase is Phase.DRAINING and not self.channels.in_flight:
            self._idle.set()
