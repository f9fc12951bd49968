"""A topic that is written to: its partitions, whether Kafka answers, and the producer behind it.

Whoever wants to write asks `TopicWriter.trouble` first: it knows that Kafka is away before a record has
waited for it, as a question for the cluster's metadata is asked every `PROBE_SECONDS`, whatever else
goes on. The same answer tells of partitions that were added and of a topic that is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import trio
from kafka import KafkaProducer
from kafka.errors import BrokerResponseError, KafkaError
from kafka.future import Future

from pipeline.config.model import KafkaConfig
from pipeline.contracts.log_events import event
from pipeline.errors import PipelineError, one_line
from pipeline.kafka.batch_builder import Message
from pipeline.kafka.batch_producer import DELIVERY_SECONDS, BatchProducer
from pipeline.kafka.delivery import Delivery, NotDelivered
from pipeline.kafka.errors import unusable
from pipeline.kafka.options import METADATA_MS
from pipeline.kafka.producer import close_producer, future_done, make_producer
from pipeline.kafka.sender_repairs import look_less, survive_refusals
from pipeline.runtime.backoff import Backoff

log = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
"""How often the cluster is asked, and how long it may take to answer."""

REQUEST_SECONDS = 10.0
"""How long a broker may take to answer, before the batch is sent again: several times in
`DELIVERY_SECONDS`."""

START_SECONDS = 20.0
"""How long the topic is looked for at the start."""

PROBES_WITHOUT_ID = 3
"""A producer that has no id when Kafka has answered so often is made anew.

kafka-python drops its id when a batch that was sent has expired, and asks for another. If the broker is
away at that moment the request can get lost, and it waits for the answer for ever (3.0.12)."""

CLOSE_SECONDS = 2.0

NO_ID = UUID(int=0)


class TopicWriter:
    """Writes records to one topic, acknowledged by all replicas.

    Usage: ``await nursery.start(writer.run)``, then its other methods, until that is cancelled.

    Args:
        kafka: how to reach the brokers.
        topic: its name; it must be there.
        client_id: how the brokers know this program.
        make: makes a producer; blocks, on a worker thread.

    Attributes:
        partitions: how many the topic has; 0 before `run` has started.
        topic_id: the topic's id; all zeros where the brokers tell none (before Kafka 2.8).
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        topic: str,
        client_id: str,
        make: Callable[[], KafkaProducer] | None = None,
    ) -> None:
        self._topic = topic
        self._make = make or partial(make_topic_producer, kafka, client_id)
        self._kafka = kafka
        self._useless = trio.Event()
        self._batches = BatchProducer(topic, self._lose)
        self._trouble: NotDelivered | None = NotDelivered("away", "not connected yet")
        self._backoff = Backoff()
        self._producer: KafkaProducer | None = None
        self._without_id = 0
        self.partitions = 0
        self.topic_id = NO_ID

    @property
    def pending_records(self) -> int:
        """How many records were handed in, and have no outcome yet."""
        return self._batches.pending_records

    @property
    def pending_bytes(self) -> int:
        """The size of the records that were handed in, and have no outcome yet."""
        return self._batches.pending_bytes

    @property
    def trouble(self) -> NotDelivered | None:
        """Why no record can be written just now; None if nothing is known against it."""
        return self._trouble

    def accepts(self, partition: int) -> bool:
        """Return whether a partition takes records: see `BatchProducer.accepts`."""
        return self._batches.accepts(partition)

    def send(self, partition: int, messages: Sequence[Message]) -> Delivery:
        """Hand records in: see `BatchProducer.send`. Not a checkpoint."""
        return self._batches.send(partition, messages)

    async def wait_idle(self) -> None:
        """Wait until every record has an outcome: within `DELIVERY_SECONDS` or so. A checkpoint."""
        await self._batches.wait_idle()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and keep what is known up to date, until cancelled; then close the producer.

        What has no outcome by then gets none: call `wait_idle` before.

        Raises:
            PipelineError: at the start: no broker answers, or the topic is not there.
        """
        try:
            await self._start()
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._batches.run)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._renew)
        finally:
            if self._producer is not None:
                close = partial(close_producer, self._producer, CLOSE_SECONDS)
                with trio.CancelScope(shield=True):  # its thread would stay; it ends by itself
                    await trio.to_thread.run_sync(close)

    async def _start(self) -> None:
        try:
            producer = await trio.to_thread.run_sync(self._make, abandon_on_cancel=True)
            self._producer = producer
            with trio.fail_after(START_SECONDS):
                await trio.to_thread.run_sync(
                    producer.partitions_for, self._topic, abandon_on_cancel=True
                )
        except trio.TooSlowError:
            raise self._absent("it is not there, or has no leader") from None
        except KafkaError as error:
            if self._producer is not None:
                raise self._absent(one_line(error)) from error
            raise unusable(self._kafka, error) from error
        except OSError as error:
            raise unusable(self._kafka, error) from error
        self._learn(producer)
        self._batches.use(producer)

    def _absent(self, why: str) -> PipelineError:
        return PipelineError(
            f"can't write to the topic {self._topic}: {why}; make the topic, allow this user to"
            " describe and write it, or name another in ingest.topic"
        )

    def _lose(self) -> None:
        self._useless.set()

    async def _watch(self) -> None:
        """Ask for the cluster's metadata, over and over."""
        while True:
            producer = self._producer
            if producer is not None:
                with trio.move_on_after(PROBE_SECONDS):
                    future = producer._metadata.request_update()
                    producer._sender.wakeup()
                    await future_done(future)
                    if _answered(future):
                        self._learn(producer)
                        self._retire_without_id(producer)
                    await trio.sleep_forever()
                if not _answered(future):
                    self._note(NotDelivered("away", "no broker answers"))
            else:
                await trio.sleep(PROBE_SECONDS)
            self._batches.expire()

    def _retire_without_id(self, producer: KafkaProducer) -> None:
        manager = producer._transaction_manager
        stuck = not manager.has_producer_id() and not manager.has_fatal_error()
        self._without_id = self._without_id + 1 if stuck else 0
        if self._without_id >= PROBES_WITHOUT_ID:
            self._without_id = 0
            self._batches.retire(producer)

    def _learn(self, producer: KafkaProducer) -> None:
        """Take over what the metadata says of the topic."""
        metadata = producer._metadata
        known = metadata.partitions_for_topic(self._topic)
        if self._topic in metadata.unauthorized_topics:
            self._note(NotDelivered("not-allowed", "this user may not describe the topic"))
        elif not known:
            self._note(NotDelivered("no-topic", f"there is no topic {self._topic}"))
        else:
            if self.partitions and len(known) != self.partitions:
                log.warning("%s has %d partitions now, and had %d: keys are placed anew",
                            self._topic, len(known), self.partitions)  # fmt: skip
            self.partitions = len(known)
            self.topic_id = metadata.topic_id(self._topic) or NO_ID
            self._note(None)

    def _note(self, trouble: NotDelivered | None) -> None:
        """Log the transitions."""
        if trouble is not None and (
            self._trouble is None or self._trouble.reason != trouble.reason
        ):
            facts = event("not-accepting", topic=self._topic, reason=trouble.detail)
            log.error("nothing is accepted for %s: %s", self._topic, trouble.detail, extra=facts)
        elif trouble is None and self._trouble is not None and self.partitions:
            facts = event("accepting", topic=self._topic)
            log.info("%s takes records: %d partitions", self._topic, self.partitions, extra=facts)
        self._trouble = trouble

    async def _renew(self) -> None:
        """Make another producer whenever one has become useless."""
        while True:
            await self._useless.wait()
            self._useless = trio.Event()
            old, self._producer = self._producer, None
            log.warning("the producer is of no more use: another is made")
            if old is not None:
                close = partial(close_producer, old, 0)
                await trio.to_thread.run_sync(close, abandon_on_cancel=True)
            await trio.sleep(self._backoff.seconds(0))
            await self._replace()

    async def _replace(self) -> None:
        attempt = 0
        while self._producer is None:
            try:
                producer = await trio.to_thread.run_sync(self._make, abandon_on_cancel=True)
                self._producer = producer
                await trio.to_thread.run_sync(
                    producer.partitions_for, self._topic, abandon_on_cancel=True
                )
            except (KafkaError, OSError) as error:
                if self._producer is not None:  # it is good; the topic is what `_watch` tells of
                    break
                self._note(NotDelivered("away", one_line(error)))
                await trio.sleep(self._backoff.seconds(attempt))
                attempt += 1
        assert self._producer is not None
        self._learn(self._producer)
        self._batches.use(self._producer)


def _answered(future: Future) -> bool:
    """Return whether a broker has answered, be it that the topic is not there."""
    error = future.exception
    return future.is_done and (error is None or isinstance(error, BrokerResponseError))


def make_topic_producer(kafka: KafkaConfig, client_id: str) -> KafkaProducer:
    """Make the producer of a `TopicWriter`. Blocks.

    Raises:
        KafkaError, OSError: no broker answers.
    """
    producer = make_producer(
        kafka,
        client_id,
        delivery_timeout_ms=int(DELIVERY_SECONDS * 1000),
        request_timeout_ms=int(REQUEST_SECONDS * 1000),
        max_block_ms=int(REQUEST_SECONDS * 1000),
        metadata_max_age_ms=METADATA_MS,
        metrics_enabled=False,
    )
    survive_refusals(producer)
    look_less(producer)
    return producer
