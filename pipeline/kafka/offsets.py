"""What Kafka is asked beside the polls, on worker threads of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import trio
from kafka.consumer.fetcher import RecordTooLargeError
from kafka.errors import (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    KafkaError,
    NoOffsetForPartitionError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)

from pipeline.contracts.kafka import Position
from pipeline.errors import PipelineError
from pipeline.kafka import positions
from pipeline.kafka.reachability import Reachability
from pipeline.records.record import FirstRecords, Spans, TopicPartition

T = TypeVar("T")

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.5

FATAL = (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    NoOffsetForPartitionError,
    RecordTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
"""Errors of Kafka that no retry mends."""


class OffsetQueries:
    """The part of a `Consumer` that only asks; see there for what each method does.

    Args:
        consumer: kafka-python's.
        read_first: the first record in each span, by a connection of its own. Blocks, raises nothing.
    """

    def __init__(self, consumer: Any, read_first: Callable[[Spans], FirstRecords]) -> None:
        self._consumer = consumer
        self._read_first = read_first
        self._closing = False
        self._contact = Reachability()

    async def _beside(self, work: Callable[[], T]) -> T:
        """Run what is safe beside a poll on a thread of its own.

        While the consumer closes, its I/O loop may end under such a call. Then nobody needs the
        answer any more, and whoever closes ends the task that asked.
        """
        try:
            return await trio.to_thread.run_sync(work)
        except RuntimeError as error:  # a KafkaError is one too
            if isinstance(error, KafkaError) or not self._closing:
                raise
            return await trio.sleep_forever()

    async def _answered(self, work: Callable[[], T]) -> T:
        """As `_beside`, again and again until Kafka answers."""
        while True:
            try:
                return await self._beside(work)
            except KafkaError as error:
                if isinstance(error, FATAL):
                    raise PipelineError(f"Kafka: {type(error).__name__}: {error}") from error
                log.warning("asking Kafka failed, trying again: %s", type(error).__name__)
            await trio.sleep(AGAIN_SECONDS)

    async def positions(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        return await self._answered(self._ask_positions(sources, 10_000))

    async def try_positions(
        self, sources: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Position]:
        work = self._ask_positions(sources, 2000)
        try:
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        except Exception as error:  # whatever it is, only gauges want to know
            log.debug("Kafka does not say where partitions stand: %s", error)
            return {}

    def _ask_positions(
        self, sources: Iterable[TopicPartition], timeout_ms: int
    ) -> Callable[[], dict[TopicPartition, Position]]:
        return partial(positions.positions, self._consumer, list(sources), timeout_ms)

    async def first_records(self, spans: Spans) -> FirstRecords:
        work = partial(self._read_first, spans)
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        sources = list(sources)
        if not sources:
            return {}
        try:
            ends = await self._beside(
                partial(positions.ends, self._consumer, sources, timeout_ms=5000)
            )
        except KafkaError as error:
            self._contact.failed(error)
            return {}
        self._contact.answered()
        return ends

    async def topic_id(self, topic: str) -> UUID:
        return await self._answered(partial(self._topic_id, topic))

    def _topic_id(self, topic: str) -> UUID:
        found: UUID | None = self._consumer._cluster.topic_id(topic)
        if found is None:
            self._consumer.partitions_for_topic(topic)
            found = self._consumer._cluster.topic_id(topic)
        if found is None:
            raise PipelineError(
                f"the broker gives no id for topic {topic}: exactly-once needs Kafka 2.8 or later"
            )
        return found
