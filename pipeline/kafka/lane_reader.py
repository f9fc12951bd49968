"""Partitions read a second time, for their lanes: one consumer without a group, for a whole instance.

It is opened by the first read, and reads on one worker thread at a time: whoever reads polls for all who
do. What was fetched of a partition stays a while, paused, while its lanes work on what they got: for at
most `KEPT_SECONDS`, and `FETCH_BYTES` a partition.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import attrs
import trio
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.config.model import KafkaConfig
from pipeline.contracts.kafka import Fetched, LaneRecords
from pipeline.kafka.errors import in_words, raise_if_fatal
from pipeline.kafka.fetcher import free_tracebacks, resume_parked_fetches
from pipeline.kafka.options import create_no_topics, reaching_options, remember_servers
from pipeline.kafka.pinned_topics import PinnedTopics
from pipeline.kafka.positions import MOVED, keep_positions, moved_logs
from pipeline.kafka.record_batches import install_decoder
from pipeline.records.record import RawBatch, TopicPartition

log = logging.getLogger(__name__)

FETCH_BYTES = 1024 * 1024
"""How much is fetched of a partition at once. Kafka sends a larger batch whole."""

POLL_SECONDS = 0.1
"""A read that comes meanwhile waits so long; so long too, an empty fetch holds up the next at a broker."""

READ_SECONDS = 1.0
"""After which a read returns without records."""

KEPT_SECONDS = 10.0
AGAIN_SECONDS = 1.0
CLOSE_MS = 5000


@attrs.define(eq=False)
class _Read:
    """A read under way. Changed by whichever thread polls, of which there is one at a time."""

    source: TopicPartition
    topic_id: UUID
    offset: int
    max_bytes: int
    deadline: float
    batches: list[RawBatch] = attrs.field(factory=list)
    size: int = 0
    fetched: Fetched | None = None

    @property
    def place(self) -> KafkaPartition:
        return KafkaPartition(*self.source)


class LaneReader:
    """`LaneRecords` of the real Kafka.

    Args:
        kafka: how to reach it.
        client_id: how it is named there.
    """

    def __init__(self, kafka: KafkaConfig, client_id: str) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._polling = trio.Lock()
        self._reads: dict[TopicPartition, _Read] = {}
        self._consumer: _Consumer | None = None
        self._told_away = False
        self._closing = False

    async def read(
        self, source: TopicPartition, topic_id: UUID, offset: int, max_bytes: int
    ) -> Fetched:
        """See `LaneRecords.read`."""
        assert source not in self._reads, f"{source} is read twice at once"
        read = _Read(source, topic_id, offset, max_bytes, time.monotonic() + READ_SECONDS)
        self._reads[source] = read
        try:
            while read.fetched is None:
                async with self._polling:
                    if read.fetched is None:
                        await self._poll()
        finally:
            del self._reads[source]
        return read.fetched

    async def _poll(self) -> None:
        """One poll for all who read. A checkpoint; cancelled, it waits for the poll's end."""
        if self._closing:
            await trio.sleep_forever()  # whoever closes ends the lanes
        try:
            if self._consumer is None:
                self._consumer = await trio.to_thread.run_sync(
                    partial(_Consumer, self._kafka, self._client_id), abandon_on_cancel=True
                )
            await trio.to_thread.run_sync(self._consumer.poll, list(self._reads.values()))
            self._told_away = False
        except (KafkaError, OSError) as error:
            if isinstance(error, KafkaError):
                raise_if_fatal(error)
            if not self._told_away:
                log.warning("reading for lanes failed, trying again: %s", in_words(error))
            self._told_away = True
            await trio.sleep(AGAIN_SECONDS)

    async def close(self) -> None:
        """Disconnect; reads that are under way, or begin later, never return. A checkpoint."""
        self._closing = True
        async with self._polling:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                await trio.to_thread.run_sync(consumer.close)


class _Consumer:
    """kafka-python's consumer. All blocks, on one thread at a time.

    Raises:
        KafkaError, OSError: no broker answers.
    """

    def __init__(self, kafka: KafkaConfig, client_id: str) -> None:
        self._consumer = consumer = KafkaConsumer(
            **reaching_options(kafka, client_id, KafkaConsumer.DEFAULT_CONFIG),
            allow_auto_create_topics=False,
            enable_auto_commit=False,
            fetch_max_wait_ms=int(POLL_SECONDS * 1000),
            group_id=None,
            max_partition_fetch_bytes=FETCH_BYTES,
            metrics_enabled=False,
        )
        create_no_topics(consumer._cluster)
        remember_servers(consumer._cluster, kafka)
        keep_positions(consumer)
        install_decoder(consumer)
        free_tracebacks(consumer)
        self._pin = PinnedTopics(consumer._fetcher).pin
        self._starts: dict[TopicPartition, int] = defaultdict(int)
        self._wanted: dict[TopicPartition, float] = {}  # until when it is kept
        self._follow_starts()

    def poll(self, reads: Collection[_Read]) -> None:
        """Wait for something that one of these reads wants, for `POLL_SECONDS` at most.

        Raises:
            KafkaError: a fetch failed.
        """
        self._assign(reads)
        self._consumer._net.run(partial(self._seek, reads))
        ended = time.monotonic() + POLL_SECONDS
        while True:
            resume_parked_fetches(self._consumer._fetcher)
            left = max(0.0, ended - time.monotonic())
            wait = 0.0 if any(read.batches for read in reads) else left
            try:
                # One batch at a time, or a partition that has much would give more than is wanted.
                found = self._consumer.poll(timeout_ms=wait * 1000, max_records=1)
            except MOVED as error:
                self._moved(error, reads)
                found = {}
            self._take(found, reads)
            if not found or left == 0:
                break
        for read in reads:
            self._end(read)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_MS)

    def _assign(self, reads: Collection[_Read]) -> None:
        now = time.monotonic()
        for read in reads:
            self._wanted[read.source] = now + KEPT_SECONDS
        self._wanted = {source: until for source, until in self._wanted.items() if until > now}
        self._consumer.assign([KafkaPartition(*source) for source in sorted(self._wanted)])

    def _seek(self, reads: Collection[_Read]) -> None:
        """Have what is wanted fetched, and nothing else. On the I/O thread."""
        for read in reads:
            self._pin(read.place, read.topic_id)
            if self._position(read) != read.offset:
                self._consumer.seek(read.place, read.offset)
        wanted = {read.place for read in reads}
        for place in self._consumer.assignment():
            (self._consumer.resume if place in wanted else self._consumer.pause)(place)

    def _position(self, read: _Read) -> int | None:
        state = self._consumer._subscription.assignment.get(read.place)
        return state.position.offset if state is not None and state.position is not None else None

    def _take(self, found: Mapping[KafkaPartition, Any], reads: Collection[_Read]) -> None:
        for read in reads:
            for batch in found.get(read.place, ()):
                read.batches.append(batch)
                read.size += batch.size
                if read.size >= read.max_bytes:
                    self._consumer.pause(read.place)

    def _end(self, read: _Read) -> None:
        """Let a read return if it has something, has passed something, or has waited long enough."""
        reached = self._position(read) or read.offset
        late = time.monotonic() >= read.deadline
        if read.fetched is None and (read.batches or reached > read.offset or late):
            read.fetched = Fetched(
                tuple(read.batches), max(reached, read.offset), self._starts[read.source]
            )

    def _moved(self, error: KafkaError, reads: Collection[_Read]) -> None:
        """What is to be read is not in the log: below its start, above its end, or another now."""
        moved = {event.source for event in moved_logs(error)}
        starts = self._consumer.beginning_offsets([KafkaPartition(*source) for source in moved])
        for place, start in starts.items():
            source = TopicPartition(*place)
            self._starts[source] = max(start, self._starts[source])
        for read in reads:
            if read.source not in moved or read.fetched is not None:
                continue
            start = self._starts[read.source]
            if not read.batches and read.offset < start:
                read.fetched = Fetched((), start, start)
            elif not read.batches:
                # A log that was cut is told by the group's consumer, and its partition begins anew.
                self._consumer._net.run(partial(self._consumer.seek, read.place, read.offset))

    def _follow_starts(self) -> None:
        """Note from each answer where the logs begin. On the I/O thread."""
        fetcher = self._consumer._fetcher
        handle = fetcher._handle_fetch_response

        def answered(node_id: Any, fetch_offsets: Any, send_time: float, response: Any) -> None:
            handle(node_id, fetch_offsets, send_time, response)
            for topic in response.responses:  # named by now, if it came with an id
                for part in topic.partitions:
                    source = TopicPartition(topic.topic, part.partition_index)
                    with suppress(AttributeError):  # a broker before 0.11
                        self._starts[source] = max(self._starts[source], part.log_start_offset)

        fetcher._handle_fetch_response = answered  # type: ignore[method-assign]


def _conforms(reader: LaneReader) -> LaneRecords:
    return reader
