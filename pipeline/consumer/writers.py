"""The flow of one partition: fetched batches in, transactions out, and who wakes whom between.

    feed      fetched batches → backlog; the partition is paused in Kafka's client when it is full
    writer ×n a slot at the shard → backlog decoded into key channels → a batch of ready keys → the
              store → offsets done, keys free

A partition has as many writers as its shard gives it slots. Each does one batch after another, and
is in one of five places:

- **hungry**: parked, since there is nothing to take, or since another writer is gathering;
- **gathering**: a batch could start, but one of this partition is in flight, so it waits to grow
  (Nagle's algorithm: small and immediate if there is little to do, large if there is much);
- **queueing** for a slot at the shard, which other partitions share;
- **taking**: decodes what makes the batch full, and takes it;
- **writing**: its batch is in flight.

**The invariant.** If a batch could start (`_startable` > 0), then at least one writer is gathering,
queueing, taking, or has been woken from its hunger and has not looked yet; or every writer is writing.
So nothing that can be taken waits for an event that may never come.

**Who must wake whom.** A batch becomes possible in three ways only: records come in (`feed`), keys
come free (`_finish`), and a partition that stood still, or decoded nothing, goes on. All call
`_wake_a_writer`. Taking a batch makes less possible, but ends a
writer's duty to take, so the writer that has taken calls it too before it writes.

**Why one waking is enough.** The writer that is woken takes a batch, or finds that another took all;
if it took and anything is left, it wakes the next one before it writes. So one waking travels on for
as long as there is work, and at most one writer is woken for nothing. To wake all of them for each
event would be a thundering herd: with 256 partitions a thousand tasks for a batch of one record.

**At most one writer gathers.** Two that wait to grow would divide what both wait for, and each would
go half full. The first one that finds a batch in flight sets `_gathering`; as long as it is set all
wakings go to that writer, and a hungry writer that looks goes back to its place. The flag says more
than "a writer is parked in `_grown`": a gatherer that was just woken is not parked there any more and
has not gone on either, and a second event in that moment would make a second gatherer. The gatherer
stops waiting if the batch is full, if nothing is in flight any more, or after the store's ``linger``.
From then on it queues for a slot, where it delays nobody, and the next event may make another gatherer.

**Standing still.** While an operator has paused the partition, nothing is startable, so the invariant
asks for nothing: woken writers go back to their hunger, a gatherer gives up after the store's
``linger``, and a writer that queued for a slot gives it back without having decoded or taken anything.
What is in flight finishes. Kafka's client is paused meanwhile, so the partition takes no more of the
common buffer than it had. A writer looks whether it stands still after the last checkpoint before it
takes: no batch begins after `stand_still` has returned.

**Decoding nothing.** While a lane opens or closes (`lanes`), nothing is decoded: then what is fetched
can't start a batch, and what waits in channels can. At its end a writer is woken.

**What is set back.** The store may leave records of a batch undecided, which are to wait in a lane
(`setbacks`, `lane_retries`). Their keys come free like the others', and before any writer looks, whoever
is told of it has taken them, and what waits behind them, out of the channels, or has put them in front.

**How large a batch is** follows from three numbers, the smallest counts: what the store says
(`PartitionStore.batch_limit`, by what transactions have cost), ``max_batch``, and ``max_batch_bytes``
over the measured size of this partition's records; the last two are `BufferBudget.at_once`.

Rejected: one task that takes for all writers (a hand-over per batch, and a task that waits for its
slot holds up the others); a writer per key (keys are many, and a batch of many keys is what makes
Postgres cheap). Cost: a waking is a parking lot's unpark, a microsecond, twice per batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import trio

from pipeline.consumer.buffer_budget import BufferBudget
from pipeline.consumer.channels import Batch, Channels, Matches
from pipeline.consumer.intake import Intake, Tap
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.consumer.usage import Usage
from pipeline.consumer.writing import Writing
from pipeline.contracts.setback import Setback
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import Decoder
from pipeline.records.record import RawBatch, Record, TopicPartition

DECODE_AT_ONCE = 500
"""Records decoded before other tasks run: 1 to 2 ms."""


def _nothing_may_wait(setback: Setback) -> None:
    raise AssertionError(
        f"{len(setback.records)} records are to wait in a lane, and there are none"
    )


class Writers:
    """The records of one way through a partition, from when they were fetched until they are applied.

    Args:
        source: the partition.
        tap: what pauses and resumes the fetching.
        channels: where decoded records wait, by key.
        budget: how much may be held, and how large a batch may be.
        metrics: the counters of records.
        through_endpoint: whether the records come through the HTTP endpoint.
        usage: what is told of each batch that is applied; None: nobody wants to know.
    """

    def __init__(
        self,
        source: TopicPartition,
        tap: Tap,
        channels: Channels,
        budget: BufferBudget,
        metrics: Metrics,
        *,
        through_endpoint: bool = False,
        usage: Usage | None = None,
    ) -> None:
        self.channels = channels
        self.intake = Intake(source, tap, channels, budget, metrics)
        self.on_setback: Callable[[Setback], None] = _nothing_may_wait
        """Called with what a batch has left undecided, when its keys are free; not after `close`."""
        self.standing_still = False
        """Whether no batch may start, because an operator wishes so."""
        self._budget = budget
        self._store: Writing
        self._open = False
        self._in_flight: list[Batch] = []
        self._idle = trio.Event()
        self._gathering = False
        self._hungry = trio.lowlevel.ParkingLot()
        self._grown = trio.lowlevel.ParkingLot()  # the gatherer, while it is parked
        labels = (source.topic, str(source.partition))
        self._records_applied = metrics.records_applied.labels(*labels)
        self._usage = usage
        self._ages = [metrics.end_to_end_seconds]
        if through_endpoint:
            self._ages.append(metrics.accepted_to_visible_seconds)

    @property
    def offsets(self) -> OffsetTracker:
        """Which offsets are applied."""
        return self.intake.offsets

    @property
    def buffered(self) -> int:
        """Records held here: not yet decoded, waiting in channels, or in flight."""
        return self.intake.buffered

    @property
    def paused(self) -> bool:
        """Whether the fetching is paused: enough is held, or it stands still."""
        return self.intake.paused

    # Its life

    async def run(
        self,
        store: Writing,
        decode: Decoder,
        offsets: OffsetTracker,
        acknowledged: int = 0,
    ) -> None:
        """Apply what is fed until cancelled. Records are taken in from the first checkpoint on.

        Args:
            store: what applies them.
            decode: what decodes them.
            offsets: which of them are applied already.
            acknowledged: below this offset all were applied once; those that are not now are counted.

        Raises:
            Fenced: the partition has another owner (within an exception group).
            PipelineError: retrying can't help (likewise).
        """
        self._store = store
        self.intake.open(decode, offsets, acknowledged)
        self._open = True
        if self.standing_still:
            self._balance()
        async with trio.open_nursery() as nursery:
            for number in range(store.writers):
                nursery.start_soon(self._writer, number)

    def close(self) -> int:
        """Start no batch any more; return how many waiting records were dropped. No checkpoint."""
        self._open = False
        dropped = self.intake.clear() + self.channels.clear()
        self._tell_if_idle()
        return dropped

    def stand_still(self, still: bool) -> None:
        """Start no batch from now on, or go on. What is in flight finishes. Not a checkpoint."""
        if still == self.standing_still:
            return
        self.standing_still = still
        if self._open:
            self._wake_a_writer()
            self._balance()

    async def idle(self) -> None:
        """After `close`: wait until nothing is in flight, or the task has ended. A checkpoint."""
        await self._idle.wait()

    def release(self) -> None:
        """The task has ended: give its part of the common buffer back. No checkpoint."""
        self._open = False
        self.intake.release()
        self._idle.set()

    # Records in

    def feed(self, batches: Sequence[RawBatch]) -> None:
        """Hand over what was fetched, in offset order; dropped after `close`. No checkpoint.

        Raises:
            PipelineError: it can't be decoded.
        """
        if not self._open:
            return
        self.intake.add(batches)
        if self.offsets.oldest_timestamp is None and self.intake.undecoded:
            self._file(1)  # its timestamp is the partition's time lag
        self._wake_a_writer()
        self._balance()

    def _file(self, limit: int) -> None:
        """Decode so many records into their channels; after `close`, none."""
        if self._open:
            self.intake.file(limit)
            self._balance()

    def _balance(self) -> None:
        self.intake.balance(still=self.standing_still)

    @contextmanager
    def decoding_nothing(self) -> Iterator[None]:
        """Decode nothing while the block runs: what waits goes on, and what is in flight finishes."""
        try:
            with self.intake.stopped():
                yield
        finally:
            if self._open:
                self._wake_a_writer()
                self._balance()

    def have(self, matches: Matches) -> bool:
        """Whether a decoded record that matches waits, or is in flight. Not a checkpoint."""
        flying = chain.from_iterable(batch.records for batch in self._in_flight)
        return any(map(matches, chain(flying, self.channels.waiting_records())))

    @property
    def waits_for(self) -> str:
        """What the batches in flight wait for, for people."""
        return self._store.waits_for

    # Writers

    async def _writer(self, number: int) -> None:
        while True:
            while not self._startable or self._gathering:
                await self._hungry.park()
            await self._gather()
            await self._write(number)

    async def _gather(self) -> None:
        """Wait for a full batch, for the end of those in flight, or for as long as it may linger."""
        if not self._in_flight or self._full:
            return
        with self._as_the_gatherer(), trio.move_on_after(self._store.linger):
            while self._in_flight and not self._full:
                await self._grown.park()

    @contextmanager
    def _as_the_gatherer(self) -> Iterator[None]:
        assert not self._gathering, "two writers gather"
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False

    async def _write(self, number: int) -> None:
        """Apply a batch, if there is one.

        A call of its own: a writer that waits for the next batch must not hold the last one. With 256
        partitions that would be up to a batch for each of a thousand writers.
        """
        async with self._store.slot():
            await self._top_up()
            if self.standing_still:
                return
            batch = self.channels.take(self._limit)
            self._wake_a_writer()
            if batch.records:
                await self._apply(number, batch)

    async def _top_up(self) -> None:
        """Decode what makes the batch full, now that it goes.

        Not earlier: fresh records are in the caches, and what many partitions hold stays small.
        Records of keys that are in flight don't count: behind them may be others that could run.
        """
        while (
            self.intake.undecoded and self.channels.ready < self._limit and not self.standing_still
        ):
            self._file(self._at_once(DECODE_AT_ONCE))
            await trio.lowlevel.checkpoint()

    async def _apply(self, number: int, batch: Batch) -> None:
        self._in_flight.append(batch)
        begun = time.perf_counter()
        setback = await self._store.apply(number, batch.records)
        # Only now. Of a batch that failed it is not known what is applied: the partition ends, but until it
        # has ended no lane may take the batch for done, and begin with later records of its keys.
        self._in_flight.remove(batch)
        records = batch.records if setback is None else setback.decided(batch.records)
        self._finish(batch, records, setback)
        if self._usage is not None and records:
            self._usage.applied(records, time.perf_counter() - begun)

    def _finish(self, batch: Batch, records: list[Record], setback: Setback | None) -> None:
        self.offsets.done(records)
        self.channels.done(batch)
        if setback is not None and self._open:
            self.on_setback(setback)
        self._wake_a_writer()
        self._records_applied.inc(len(records))
        stamps, now = [record.raw.timestamp for record in records], time.time()
        for ages in self._ages:
            ages.observe_ages(stamps, now)
        self._balance()
        self._tell_if_idle()

    # Waking, and sizes

    def _wake_a_writer(self) -> None:
        """A batch may have become possible, or larger: see the invariant."""
        if self._gathering:
            self._grown.unpark()
        elif self._startable:
            self._hungry.unpark()

    def _tell_if_idle(self) -> None:
        if not self._open and not self.channels.in_flight:
            self._idle.set()

    @property
    def _startable(self) -> int:
        """How many records a batch would start from at most: some may be of keys in flight."""
        if self.standing_still:
            return 0
        return self.channels.ready + self.intake.undecoded

    @property
    def _full(self) -> bool:
        return self._startable >= self._limit

    @property
    def _limit(self) -> int:
        """How many records the next batch may have."""
        return self._at_once(self._store.batch_limit)

    def _at_once(self, records: int) -> int:
        """Clamp a number of records so that they also fit into ``max_batch_bytes``."""
        return self._budget.at_once(records, self.intake.record_bytes)
