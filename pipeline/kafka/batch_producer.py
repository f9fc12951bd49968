"""Sends records of one topic in batches, and says of each what became of it. In Trio.

What a caller hands in (a `Delivery`) joins the queue of its partition. A partition has one batch under
way; all that comes meanwhile is the next one. So order is that of the queue, also through repetitions,
and batches grow by themselves with the load, without waiting for more when there is none. Batches of one
broker leave together: see `waves`.

A batch is filled here by the compiled builder, and given to kafka-python's producer whole. Its thread is
woken once per wave, and the answers to a wave come back by one crossing. No record crosses a thread.

What is under way or waiting has a deadline, and nobody waits for Kafka beyond it. Whether Kafka is
away is known before anybody has to wait: see `topic_writer`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
from kafka import KafkaProducer
from kafka.errors import IllegalStateError
from kafka.producer.producer_batch import ProducerBatch
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.kafka.batch_builder import CompiledRecords, Message
from pipeline.kafka.delivery import Delivery, NotDelivered, Outcome, fill, why_not
from pipeline.kafka.hand_over import Answers, enqueue, wake
from pipeline.kafka.under_way import Batch, PartitionQueue
from pipeline.kafka.waves import Wave, Waves

log = logging.getLogger(__name__)

DELIVERY_SECONDS = 25.0
"""How long a record may wait for its acknowledgement, before its sender is told that there is none.

A leader that moves is back within a few seconds; whoever sent the request waits for half a minute."""

TURNS = 2
"""How many turns of Trio's loop pass before a wave leaves: in the first the clients of the one before are
answered, in the second what has arrived at the sockets by then is taken in. Without load that is a tenth
of a millisecond."""

SMALLEST_BATCH_BYTES = 4 * 1024

SUSPECT_SECONDS = 2.0
"""A partition whose batch is under way for longer takes no more, until it is acknowledged."""

AGAIN = ("OutOfOrderSequenceNumberError", "UnknownProducerIdError", "InvalidProducerEpochError")
"""Errors by which a broker refuses a batch because of an earlier one: by their names, as kafka-python
makes a new producer id or epoch after them, and the batch can be sent under that."""


class BatchProducer:
    """Sends to one topic by one of kafka-python's producers at a time.

    Usage: `use` a producer; `send`, while `run` runs.

    Args:
        topic: its name.
        lost: called when the producer has become useless; `use` is to be called with another.

    Attributes:
        pending_records: handed in, and without an outcome.
        pending_bytes: their size.
        acknowledged_at: when a batch was last acknowledged, by Trio's clock.
    """

    def __init__(self, topic: str, lost: Callable[[], None]) -> None:
        self._topic = topic
        self._lost = lost
        self._producer: KafkaProducer | None = None
        self._partitions: dict[int, PartitionQueue] = {}
        self._ready: dict[int, PartitionQueue] = {}  # something waits, and nothing is under way
        self._waves = Waves()
        self._work = trio.lowlevel.ParkingLot()
        self._answers = Answers[tuple[PartitionQueue, Batch, Any]](self._take_answers)
        self._idle = trio.Event()
        self._idle.set()
        self.pending_records = 0
        self.pending_bytes = 0
        self.acknowledged_at = trio.current_time()

    def use(self, producer: KafkaProducer) -> None:
        """Send by this producer from now on, what waits first. Not a checkpoint."""
        self._producer = producer
        self._work.unpark_all()

    async def run(self) -> None:
        """Hand what waits over to the producer, until cancelled."""
        while True:
            due = self._dispatch()
            if due == math.inf:
                await self._work.park()
            else:
                with trio.move_on_at(due):
                    await self._work.park()
            for _ in range(TURNS):
                await trio.lowlevel.checkpoint()

    def retire(self, producer: KafkaProducer) -> None:
        """Send nothing more by this producer: another is to be made. Not a checkpoint."""
        if self._producer is producer:
            self._producer = None
            self._lost()

    def accepts(self, partition: int) -> bool:
        """Return whether a partition takes records. Not a checkpoint.

        A partition that is late does not; nor one whose last batch was not acknowledged, but for one
        delivery at a time: that one is the probe.
        """
        found = self._partitions.get(partition)
        if found is None:
            return True
        batch = found.under_way
        if batch is not None and trio.current_time() - batch.since > SUSPECT_SECONDS:
            found.suspect = True
        return not found.suspect or (batch is None and not found.waiting)

    def send(self, partition: int, messages: Sequence[Message]) -> Delivery:
        """Hand records in; wait for ``done`` of what is returned. Not a checkpoint.

        Nobody needs to wait: they are sent all the same, and given up after `DELIVERY_SECONDS`.
        """
        size = sum(len(value) + len(key or b"") for key, value, _ in messages)
        delivery = Delivery(partition, messages, size, trio.current_time() + DELIVERY_SECONDS)
        self.pending_records += len(messages)
        self.pending_bytes += size
        if self._idle.is_set():
            self._idle = trio.Event()
        found = self._partitions.get(partition)
        if found is None:
            found = self._partitions[partition] = PartitionQueue(
                KafkaPartition(self._topic, partition)
            )
        found.waiting.append(delivery)
        if found.under_way is None:
            self._ready[partition] = found
            self._work.unpark_all()
        return delivery

    def expire(self) -> None:
        """Give up what has waited too long without having been sent. Call it every second or so."""
        for partition in list(self._partitions.values()):
            self._expire(partition)

    def _expire(self, partition: PartitionQueue) -> None:
        now = trio.current_time()
        why = NotDelivered("away", f"not sent to Kafka within {DELIVERY_SECONDS:g} s")
        while partition.waiting and partition.waiting[0].deadline <= now:
            delivery = partition.waiting[0]
            if delivery.taken > len(delivery.outcomes):
                break  # a part is under way: the rest follows its outcome
            partition.waiting.popleft()
            partition.suspect = True
            self._left(delivery, delivery.give_up(why))

    async def wait_idle(self) -> None:
        """Wait until every record has an outcome. A checkpoint."""
        await self._idle.wait()

    def _dispatch(self) -> float:
        """Hand over one batch of each partition that is ready; return when those held up are due."""
        producer, now, due = self._producer, trio.current_time(), math.inf
        if producer is None or not self._ready:
            return due
        waves: dict[int | None, Wave] = {}
        handed: list[tuple[PartitionQueue, Batch]] = []
        for partition in tuple(self._ready.values()):
            broker = producer._metadata.leader_for_partition(partition.key)
            if broker not in waves and (held := self._waves.held_until(broker)) > now:
                due = min(due, held)
                continue
            self._expire(partition)
            del self._ready[partition.key.partition]
            if partition.waiting:
                if broker not in waves:
                    waves[broker] = self._waves.begin(broker, now)
                handed.append((partition, self._fill(partition, producer, waves[broker])))
        self._hand_over(producer, handed)
        return due

    def _fill(self, partition: PartitionQueue, producer: KafkaProducer, wave: Wave) -> Batch:
        """Make a batch of what waits."""
        records = CompiledRecords(1 if partition.singly else partition.batch_bytes)
        partition.singly = max(partition.singly - 1, 0)
        parts = fill(records, partition.waiting)
        sent = ProducerBatch(partition.key, records)
        now = trio.current_time()
        sent.created -= DELIVERY_SECONDS - (
            parts[0][0].deadline - now
        )  # it has waited here already
        batch = partition.under_way = Batch(parts, sent, producer, now, wave)
        sent.produce_future.add_both(partial(self._tell, partition, batch))
        return batch

    def _hand_over(
        self, producer: KafkaProducer, handed: Sequence[tuple[PartitionQueue, Batch]]
    ) -> None:
        for partition, batch in handed:
            try:
                enqueue(producer, batch.sent)
            except IllegalStateError:  # it is closed: so says `lost`, and another will come
                partition.under_way = None
                self._take_back(partition, batch)
                self._ready[partition.key.partition] = partition
        if handed:
            wake(producer)

    def _tell(self, partition: PartitionQueue, batch: Batch, result: Any) -> None:
        """Bring an answer into Trio. Runs on the producer's thread."""
        self._answers.tell((partition, batch, result))

    def _take_answers(self, answers: Sequence[tuple[PartitionQueue, Batch, Any]]) -> None:
        for partition, batch, result in answers:
            self._finish(partition, batch, result)
        self._work.unpark_all()

    def _finish(self, partition: PartitionQueue, batch: Batch, result: Any) -> None:
        """Resolve a batch, or put it back; what waits is ready."""
        partition.under_way = None
        batch.wave.end()
        offset, _, error_of = result
        if error_of is None:
            partition.suspect = False
            self.acknowledged_at = trio.current_time()
            self._resolve(batch, range(offset, offset + batch.count) if offset >= 0 else None)
        else:
            self._failed(partition, batch, error_of(0))
        if partition.waiting:
            self._ready[partition.key.partition] = partition

    def _failed(self, partition: PartitionQueue, batch: Batch, error: Exception) -> None:
        self._notice_useless(batch.producer)
        unsent = batch.sent.drained is None
        why = why_not(error, perhaps_written=not unsent)
        if why.reason in ("too-large", "refused") and batch.count > 1:
            self._divide(partition, batch, too_large=why.reason == "too-large")
            return
        again = type(error).__name__ in AGAIN and not batch.sent.attempts
        overdue = batch.parts[0][0].deadline <= trio.current_time()
        if (unsent or again) and not overdue and why.reason != "not-allowed":
            self._take_back(partition, batch)
            return
        partition.suspect = why.reason not in ("too-large", "refused")
        if partition.suspect:
            log.error("%s-%d: %d records were not acknowledged: %s",
                      self._topic, partition.key.partition, batch.count, why.detail)  # fmt: skip
        self._resolve(batch, why)

    def _resolve(self, batch: Batch, outcome: range | NotDelivered | None) -> None:
        at = 0
        for delivery, _, count in batch.parts:
            outcomes: Sequence[Outcome]
            if isinstance(outcome, range):
                outcomes = outcome[at : at + count]
                at += count
            else:
                outcomes = [-1 if outcome is None else outcome] * count
            delivery.resolve(outcomes)
            self._left(delivery, count)

    def _left(self, delivery: Delivery, count: int) -> None:
        self.pending_records -= count
        if delivery.done.is_set():
            self.pending_bytes -= delivery.size
        if not self.pending_records:
            self._idle.set()

    def _divide(self, partition: PartitionQueue, batch: Batch, *, too_large: bool) -> None:
        """Put a batch that was refused back, to be sent in smaller ones."""
        half = batch.sent.records.size_in_bytes() // 2
        if too_large and half >= SMALLEST_BATCH_BYTES:
            partition.batch_bytes = half
        else:
            partition.singly = batch.count
        self._take_back(partition, batch)

    def _take_back(self, partition: PartitionQueue, batch: Batch) -> None:
        """Put a batch's records back to the head of the queue."""
        for delivery, first, _ in reversed(batch.parts):
            delivery.taken = first
            if not partition.waiting or partition.waiting[0] is not delivery:
                partition.waiting.appendleft(delivery)

    def _notice_useless(self, producer: KafkaProducer) -> None:
        if producer._transaction_manager.has_fatal_error():
            self.retire(producer)
