"""Offsets of partitions, and topics' ids: what Kafka is asked beside the polls.

`OffsetQueries` is the Trio side. The functions below it block, and run on worker threads.

A partition that has no leader (its last replica is away) is left out of the answers. kafka-python
raises a KeyError or times out if it is asked for such a partition together with others: one partition
would hold up all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

import trio
from kafka import KafkaConsumer
from kafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.contracts.kafka import Position
from pipeline.errors import PipelineError
from pipeline.kafka.blocking_calls import BlockingCalls
from pipeline.kafka.errors import raise_if_fatal
from pipeline.kafka.reachability import Reachability
from pipeline.kafka.retried_errors import RetriedErrors
from pipeline.records.record import FirstRecords, Spans, TopicPartition
from pipeline.runtime.backoff import Backoff

T = TypeVar("T")

log = logging.getLogger(__name__)

BACKOFF = Backoff(initial=0.5, longest=2.0)
"""Between attempts of a query that is repeated until Kafka answers."""

TIMEOUT_MS = 10_000
ENDS_TIMEOUT_MS = 5000
TRY_TIMEOUT_MS = 2000

NO_LEADER = (None, -1)
"""What kafka-python's metadata say if a partition's leader is not known, or not there."""


class OffsetQueries:
    """The queries of a `Consumer`; see there for what each method does. In Trio.

    All methods are checkpoints. Cancelling `positions`, `ends` or `topic_id` waits for the request under
    way, which its timeout bounds. If `try_positions` or `first_records` is cancelled it returns at once,
    and its thread ends by its own timeout.

    Args:
        consumer: kafka-python's.
        calls: where its blocking calls run.
        read_first: reads the first record in each span, by a connection of its own. Blocks, and raises
            nothing.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        calls: BlockingCalls,
        read_first: Callable[[Spans], FirstRecords],
    ) -> None:
        self._consumer = consumer
        self._calls = calls
        self._read_first = read_first
        self._reachability = Reachability()
        self._retried = RetriedErrors()

    async def positions(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """See `Consumer.positions`."""
        return await self._until_answered(
            partial(read_positions, self._consumer, list(sources), TIMEOUT_MS)
        )

    async def try_positions(
        self, sources: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Position]:
        """See `Consumer.try_positions`."""
        work = partial(read_positions, self._consumer, list(sources), TRY_TIMEOUT_MS)
        try:
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        except Exception as error:  # whatever it is, only gauges need the answer
            log.debug("Kafka does not say where partitions stand: %s", error)
            return {}

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.ends`."""
        sources = list(sources)
        if not sources:
            return {}
        try:
            ends = await self._calls.run(
                partial(read_ends, self._consumer, sources, ENDS_TIMEOUT_MS)
            )
        except KafkaError as error:
            self._reachability.failed(error)
            return {}
        self._reachability.answered()
        return ends

    async def first_records(self, spans: Spans) -> FirstRecords:
        """See `Consumer.first_records`."""
        work = partial(self._read_first, spans)
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def topic_id(self, topic: str) -> UUID:
        """See `Consumer.topic_id`."""
        return await self._until_answered(partial(read_present_topic_id, self._consumer, topic))

    async def topic_ids(self) -> Mapping[str, UUID | None]:
        """See `Consumer.topic_ids`."""
        try:
            return await self._calls.run(partial(read_topic_ids, self._consumer))
        except KafkaError as error:
            raise_if_fatal(error)
            log.debug("Kafka does not say which topics there are: %s", error)
            return {}

    def topic_sizes(self) -> dict[str, int]:
        """How many partitions each subscribed topic has, as far as is known. Not a checkpoint."""
        cluster = self._consumer._cluster
        found = {
            topic: cluster.partitions_for_topic(topic)
            for topic in self._consumer.subscription() or ()
        }
        return {topic: len(numbers) for topic, numbers in found.items() if numbers}

    async def _until_answered(self, work: Callable[[], T]) -> T:
        """Like `BlockingCalls.run`, but repeated until Kafka answers.

        Raises:
            PipelineError: an error that no retry mends.
        """
        attempt = 0
        while True:
            try:
                return await self._calls.run(work)
            except KafkaError as error:
                raise_if_fatal(error)
                self._retried.tell("asking Kafka failed, trying again", error)
            await trio.sleep(BACKOFF.seconds(attempt))
            attempt += 1


def read_positions(
    consumer: KafkaConsumer, sources: Iterable[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, Position]:
    """Read where partitions with a leader begin and end, and where the group stands.

    Blocks for up to ``timeout_ms`` for each of its three requests.

    Raises:
        KafkaError: Kafka did not answer.
    """
    led = _with_leader(consumer, sources)
    if not led:
        return {}
    committed = consumer._coordinator.fetch_committed_offsets(led, timeout_ms=timeout_ms)
    starts = _offsets(consumer.beginning_offsets, led, timeout_ms)
    ends = _offsets(consumer.end_offsets, led, timeout_ms)
    policy = consumer.config["auto_offset_reset"]
    resets = {"earliest": starts, "latest": ends}.get(policy, {})
    found = {}
    for source in led:
        offset = committed.get(source)
        found[TopicPartition(*source)] = Position(
            committed=None if offset is None else offset.offset,
            metadata="" if offset is None else offset.metadata,
            start=starts[source],
            end=ends[source],
            reset=resets.get(source),
        )
    return found


def read_ends(
    consumer: KafkaConsumer, sources: Iterable[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, int]:
    """Read the offset after each log's last record, of partitions with a leader.

    Blocks for up to ``timeout_ms``.

    Raises:
        KafkaError: Kafka did not answer.
    """
    led = _with_leader(consumer, sources)
    found = _offsets(consumer.end_offsets, led, timeout_ms) if led else {}
    return {TopicPartition(*source): end for source, end in found.items()}


def read_topic_id(consumer: KafkaConsumer, topic: str) -> UUID:
    """Return a topic's UUID. Blocks if the consumer has no metadata of the topic yet.

    Raises:
        PipelineError: the broker gives no id.
        KafkaError: Kafka did not answer.
    """
    found = consumer._cluster.topic_id(topic)
    if found is None:
        consumer.partitions_for_topic(topic)
        found = consumer._cluster.topic_id(topic)
    if found is None:
        raise _no_id(topic)
    return found


def read_present_topic_id(consumer: KafkaConsumer, topic: str) -> UUID:
    """Return the UUID that a topic that is subscribed to has now. Blocks as `read_topic_ids` does.

    Raises:
        PipelineError: the broker gives no id.
        UnknownTopicOrPartitionError: there is no such topic.
        KafkaError: Kafka did not answer.
    """
    ids = read_topic_ids(consumer)
    if topic not in ids:
        raise _no_id(topic)
    found = ids[topic]
    if found is None:
        raise UnknownTopicOrPartitionError(topic)
    return found


def _no_id(topic: str) -> PipelineError:
    return PipelineError(
        f"the broker gives no id for topic {topic}: exactly-once needs Kafka 2.8 or later"
    )


def read_topic_ids(consumer: KafkaConsumer) -> Mapping[str, UUID | None]:
    """Return the UUID of each topic that is subscribed to as Kafka has it now; None without a topic.

    Blocks, for up to `TRY_TIMEOUT_MS`. Topics whose id can't be known are left out.

    Raises:
        KafkaError: Kafka did not answer, or a topic may not be described.
    """
    _refresh(consumer)
    cluster = consumer._cluster
    found: dict[str, UUID | None] = {}
    for topic in consumer.subscription() or ():
        topic_id = cluster.topic_id(topic)
        if cluster.partitions_for_topic(topic) is None:
            found[topic] = None
        elif topic_id is not None and topic_id.int:
            found[topic] = topic_id
    return found


def _refresh(consumer: KafkaConsumer) -> None:
    """Have the metadata of topics asked for now. Blocks, for up to `TRY_TIMEOUT_MS`.

    Raises:
        TopicAuthorizationFailedError: a topic may not be described.
        KafkaError: Kafka did not answer.
    """
    cluster = consumer._cluster
    with suppress(UnknownTopicOrPartitionError):  # an answer, too: there is no such topic
        consumer._net.run(consumer._manager.wait_for, cluster.request_update(), TRY_TIMEOUT_MS)
    if cluster.unauthorized_topics:
        raise TopicAuthorizationFailedError(set(cluster.unauthorized_topics))


def _with_leader(
    consumer: KafkaConsumer, sources: Iterable[TopicPartition]
) -> list[KafkaPartition]:
    cluster = consumer._cluster
    partitions = [KafkaPartition(*source) for source in sources]
    led = [p for p in partitions if cluster.leader_for_partition(p) not in NO_LEADER]
    if len(led) < len(partitions):
        cluster.request_update()  # nobody else requests one while these partitions are paused
    return led


class _ReadOffsets(Protocol):
    """`KafkaConsumer.beginning_offsets` or `KafkaConsumer.end_offsets`."""

    def __call__(
        self, partitions: Iterable[KafkaPartition], timeout_ms: int | None
    ) -> Mapping[KafkaPartition, int]: ...


def _offsets(
    read: _ReadOffsets, partitions: list[KafkaPartition], timeout_ms: int
) -> Mapping[KafkaPartition, int]:
    try:
        return read(partitions, timeout_ms=timeout_ms)
    except KeyError as error:  # its leader went after `_with_leader` had looked
        raise LeaderNotAvailableError(f"of {error.args[0]}") from error
