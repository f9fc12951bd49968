"""Sends records of one topic in batches, and says of each what became of it. In Trio.

What a caller hands in (a `Delivery`) joins the queue of its partition. A partition has one batch under
way; all that comes meanwhile is the next one. So order is that of the queue, also through repetitions,
and batches grow by themselves with the load, without waiting for more when there is none.

A batch is filled here by the compiled builder, and given to kafka-python's producer whole: one object
joins its queue and its thread is woken, once per batch; its answer comes back by one callback, once per
batch. No record crosses a thread.

What is under way or waiting has a deadline, and nobody waits for Kafka beyond it. Whether Kafka is
away is known before anybody has to wait: see `kafka_watch`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import trio
from kafka import KafkaProducer
from kafka.errors import IllegalStateError
from kafka.producer.producer_batch import ProducerBatch
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.kafka.batch_builder import CompiledRecords, Message
from pipeline.kafka.delivery import Delivery, NotDelivered, Outcome, fill, why_not

log = logging.getLogger(__name__)

DELIVERY_SECONDS = 25.0
"""How long a record may wait for its acknowledgement, before its sender is told that there is none.

A leader that moves is back within a few seconds; whoever sent the request waits for half a minute."""

BATCH_BYTES = 512 * 1024
"""A batch takes no more records beyond this. Below what a topic takes by default (1 MiB)."""

SMALLEST_BATCH_BYTES = 4 * 1024

SUSPECT_SECONDS = 2.0
"""A partition whose batch is under way for longer takes no more, until it is acknowledged."""

AGAIN = ("OutOfOrderSequenceNumberError", "UnknownProducerIdError", "InvalidProducerEpochError")
"""Errors by which a broker refuses a batch because of an earlier one: by their names, as kafka-python
makes a new producer id or epoch after them, and the batch can be sent under that."""


@attrs.define(eq=False)
class _Batch:
    """A batch under way: parts of deliveries (delivery, first record, count), in order."""

    parts: list[tuple[Delivery, int, int]]
    sent: Any
    producer: KafkaProducer
    since: float

    @property
    def count(self) -> int:
        return sum(count for _, _, count in self.parts)


@attrs.define(eq=False)
class _Partition:
    """A partition's queue.

    Attributes:
        suspect: its last batch was not acknowledged, or is late.
        batch_bytes: what a batch of it may take; less where the topic refused larger ones.
        singly: how many records go alone, since one among them was refused.
    """

    key: KafkaPartition
    waiting: deque[Delivery] = attrs.field(factory=deque)
    under_way: _Batch | None = None
    suspect: bool = False
    batch_bytes: int = BATCH_BYTES
    singly: int = 0


class BatchProducer:
    """Sends to one topic by one of kafka-python's producers at a time.

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
        self._partitions: dict[int, _Partition] = {}
        self._token = trio.lowlevel.current_trio_token()
        self._idle = trio.Event()
        self._idle.set()
        self.pending_records = 0
        self.pending_bytes = 0
        self.acknowledged_at = trio.current_time()

    def use(self, producer: KafkaProducer) -> None:
        """Send by this producer from now on, what waits first. Not a checkpoint."""
        self._producer = producer
        for partition in list(self._partitions.values()):
            self._dispatch(partition)

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
            found = self._partitions[partition] = _Partition(KafkaPartition(self._topic, partition))
        found.waiting.append(delivery)
        if found.under_way is None:
            self._dispatch(found)
        return delivery

    def expire(self) -> None:
        """Give up what has waited too long without having been sent. Call it every second or so."""
        for partition in list(self._partitions.values()):
            self._expire(partition)

    def _expire(self, partition: _Partition) -> None:
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

    def _dispatch(self, partition: _Partition) -> None:
        """Send what waits as one batch, unless one is under way."""
        producer = self._producer
        if partition.under_way is None:
            self._expire(partition)
        if producer is None or partition.under_way is not None or not partition.waiting:
            return
        records = CompiledRecords(1 if partition.singly else partition.batch_bytes)
        partition.singly = max(partition.singly - 1, 0)
        parts = fill(records, partition.waiting)
        sent = ProducerBatch(partition.key, records)
        now = trio.current_time()
        sent.created -= DELIVERY_SECONDS - (
            parts[0][0].deadline - now
        )  # it has waited here already
        batch = _Batch(parts, sent, producer, now)
        partition.under_way = batch
        sent.produce_future.add_both(partial(self._tell, partition, batch))
        try:
            _queue(producer, sent)
        except IllegalStateError:  # it is closed: so says `lost`, and another will come
            partition.under_way = None
            self._take_back(partition, batch)

    def _tell(self, partition: _Partition, batch: _Batch, result: Any) -> None:
        """Bring the answer into Trio. Runs on the producer's thread."""
        with suppress(trio.RunFinishedError):  # nobody waits any more
            self._token.run_sync_soon(self._finish, partition, batch, result)

    def _finish(self, partition: _Partition, batch: _Batch, result: Any) -> None:
        """Resolve a batch, or put it back; send the next one."""
        partition.under_way = None
        offset, _, error_of = result
        if error_of is None:
            partition.suspect = False
            self.acknowledged_at = trio.current_time()
            self._resolve(batch, range(offset, offset + batch.count) if offset >= 0 else None)
        else:
            self._failed(partition, batch, error_of(0))
        self._dispatch(partition)

    def _failed(self, partition: _Partition, batch: _Batch, error: Exception) -> None:
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

    def _resolve(self, batch: _Batch, outcome: range | NotDelivered | None) -> None:
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

    def _divide(self, partition: _Partition, batch: _Batch, *, too_large: bool) -> None:
        """Put a batch that was refused back, to be sent in smaller ones."""
        half = batch.sent.records.size_in_bytes() // 2
        if too_large and half >= SMALLEST_BATCH_BYTES:
            partition.batch_bytes = half
        else:
            partition.singly = batch.count
        self._take_back(partition, batch)

    def _take_back(self, partition: _Partition, batch: _Batch) -> None:
        """Put a batch's records back to the head of the queue."""
        for delivery, first, _ in reversed(batch.parts):
            delivery.taken = first
            if not partition.waiting or partition.waiting[0] is not delivery:
                partition.waiting.appendleft(delivery)

    def _notice_useless(self, producer: KafkaProducer) -> None:
        if producer._transaction_manager.has_fatal_error():
            self.retire(producer)


def _queue(producer: KafkaProducer, batch: ProducerBatch) -> None:
    """Hand a batch over to a producer's thread, and wake it.

    Raises:
        IllegalStateError: the producer is closed.
    """
    accumulator = producer._sender._accumulator
    with accumulator._tp_lock(batch.topic_partition):
        if accumulator._closed:
            raise IllegalStateError("the producer is closed")
        accumulator._batches[batch.topic_partition].append(batch)
        accumulator._incomplete.add(batch)
    producer._sender.wakeup()
