"""Kafka for the operating commands: blocking calls, and no group is joined.

A command does one thing and ends, so nothing here needs Trio; Ctrl-C works at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import attrs
import trio
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    KafkaError,
    NotCoordinatorError,
    TopicAuthorizationFailedError,
)
from kafka.structs import OffsetAndMetadata
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.config.model import Config, KafkaConfig
from pipeline.errors import PipelineError, UsageError
from pipeline.kafka import control_topic
from pipeline.kafka.control_topic import control_topic_of
from pipeline.kafka.errors import unusable
from pipeline.kafka.offsets import read_topic_id
from pipeline.kafka.options import reaching_options
from pipeline.kafka.reader import (
    first_records,
    open_reader,
    position,
    seek,
)
from pipeline.kafka.rights import READ, may
from pipeline.records.record import FirstRecords, RawRecord, Spans, TopicPartition

T = TypeVar("T")

CONNECT_SECONDS = 10.0
COORDINATOR_SECONDS = 20.0
STALL_SECONDS = 30.0
POLL_SECONDS = 0.25


@attrs.frozen
class Committed:
    """A group's committed offset: the next one to apply, and the metadata committed with it."""

    offset: int
    metadata: str


@contextmanager
def readable_errors(kafka: KafkaConfig) -> Iterator[None]:
    """Raise what Kafka's client raises as a `PipelineError` that names the servers."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise unusable(kafka, error) from error


@contextmanager
def open_cluster(config: Config, **options: Any) -> Iterator[Cluster]:
    """Connect to Kafka; the connections are closed at the end of the block.

    Args:
        options: kafka-python's, for the consumer that reads.

    Raises:
        PipelineError: no broker answers within `CONNECT_SECONDS`, or a call in the block fails.
    """
    with readable_errors(config.kafka):
        connect = {"bootstrap_timeout_ms": int(CONNECT_SECONDS * 1000)}
        name, known = config.pipeline.name, KafkaAdminClient.DEFAULT_CONFIG
        with open_reader(config.kafka, name, **connect, **options) as consumer:
            admin = KafkaAdminClient(**reaching_options(config.kafka, name, known), **connect)
            with closing(admin):
                yield Cluster(config, consumer, admin)


def _retry_without_coordinator(call: Callable[..., T], *args: Any) -> T:
    """Call, and repeat it for up to `COORDINATOR_SECONDS` while the group has no coordinator.

    It has none while a new cluster creates its topic of offsets, and while a coordinator moves.
    """
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            return call(*args)
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


class Cluster:
    """A connected cluster. Every method blocks, and raises kafka-python's errors if Kafka fails."""

    def __init__(self, config: Config, consumer: KafkaConsumer, admin: KafkaAdminClient) -> None:
        self.kafka = config.kafka
        self.client_id = config.pipeline.name
        self._consumer = consumer
        self._admin = admin

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Return a topic's partitions, sorted.

        Raises:
            UsageError: there is no such topic.
            TopicAuthorizationFailedError: it may not be described.
        """
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            (told,) = self._admin.describe_topics([topic])
            if not may(told, READ):
                raise TopicAuthorizationFailedError(topic)
            servers = ", ".join(self.kafka.bootstrap_servers)
            raise UsageError(f"there is no topic {topic} at {servers}: create it")
        return [TopicPartition(topic, number) for number in sorted(numbers)]

    def topic_id(self, topic: str) -> UUID:
        """Return a topic's UUID.

        Raises:
            PipelineError: the broker gives none.
        """
        return read_topic_id(self._consumer, topic)

    def bounds(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Return each partition's first offset in the log, and the one after its last record."""
        partitions = [KafkaPartition(*source) for source in sources]
        starts = self._consumer.beginning_offsets(partitions)
        ends = self._consumer.end_offsets(partitions)
        return {TopicPartition(*place): (starts[place], ends[place]) for place in partitions}

    def committed(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        """Return what the group has committed; partitions without a commit are omitted."""
        wanted = [KafkaPartition(*source) for source in sources]
        group = self.kafka.group_id
        found = _retry_without_coordinator(self._admin.list_group_offsets, {group: wanted})[group]
        return {
            TopicPartition(*place): Committed(given.offset, given.metadata or "")
            for place, given in found.items()
            if given.offset >= 0
        }

    def group(self) -> tuple[str, list[str]]:
        """Return the state of the group in Kafka's words, and its members."""
        group = self.kafka.group_id
        state: str = _retry_without_coordinator(self._describe, group)["group_state"]
        return state, sorted(self.members(group).values())

    def members(self, group: str) -> dict[str, str]:
        """Return the members of any group: member id → ``CLIENT_ID at HOST``."""
        described = _retry_without_coordinator(self._describe, group)
        return {
            m["member_id"]: f"{m['client_id']} at {m['client_host']}" for m in described["members"]
        }

    def _describe(self, group: str) -> Any:
        described = self._admin.describe_groups([group])[group]
        error = described["error"]
        if error and "GroupAuthorizationFailed" in error:
            raise GroupAuthorizationFailedError(group)
        if (
            error and described["group_state"] != "Dead"
        ):  # newer brokers report an error for a group that never existed
            raise CoordinatorNotAvailableError(error)
        return described

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Set the group's offsets. Kafka refuses while the group has members.

        Raises:
            PipelineError: Kafka refused.
        """
        request = {
            KafkaPartition(*source): OffsetAndMetadata(given.offset, given.metadata, -1)
            for source, given in offsets.items()
        }
        answers = _retry_without_coordinator(
            self._admin.alter_group_offsets, self.kafka.group_id, request
        )
        for place, answer in answers.items():
            if answer.errno:
                raise PipelineError(
                    f"Kafka refuses to set the offset of {TopicPartition(*place)} in group "
                    f"{self.kafka.group_id}: {answer.__name__}. If an instance runs, stop it first"
                )

    def offsets_at(
        self, sources: Iterable[TopicPartition], moment: datetime
    ) -> dict[TopicPartition, int | None]:
        """Return the offset of each partition's first record not older than ``moment``; None if none."""
        millis = int(moment.timestamp() * 1000)
        found = self._consumer.offsets_for_times(
            {KafkaPartition(*source): millis for source in sources}
        )
        return {
            TopicPartition(*place): None if given is None else given.offset
            for place, given in found.items()
        }

    def read(
        self, spans: Mapping[TopicPartition, tuple[int, int]]
    ) -> Iterator[tuple[TopicPartition, Sequence[RawRecord]]]:
        """Yield all records in spans of offsets (half-open), in order within each partition.

        Raises:
            PipelineError: Kafka sent nothing for `STALL_SECONDS`.
        """
        open_spans = {source: span for source, span in spans.items() if span[0] < span[1]}
        seek(self._consumer, {source: start for source, (start, _) in open_spans.items()})
        deadline = time.monotonic() + STALL_SECONDS
        while open_spans:
            for place, records in self._consumer.poll(timeout_ms=POLL_SECONDS * 1000).items():
                source = TopicPartition(*place)
                if source in open_spans:
                    end = open_spans[source][1]
                    deadline = time.monotonic() + STALL_SECONDS
                    yield source, [record for record in records if record.offset < end]
            for source in [
                s for s, (_, end) in open_spans.items() if position(self._consumer, s) >= end
            ]:
                del open_spans[source]
                self._consumer.pause(KafkaPartition(*source))
            if open_spans and time.monotonic() > deadline:
                names = ", ".join(map(str, open_spans))
                raise PipelineError(f"Kafka sent nothing of {names} for {STALL_SECONDS:.0f} s")

    def control_messages(self) -> dict[bytes, bytes]:
        """Return the newest message of each key of the group's control topic; none if there is none.

        Raises:
            PipelineError: Kafka sent nothing for a while.
        """
        topic = control_topic_of(self.kafka.group_id)
        if control_topic.identity_of(self._admin, topic) is None:
            return {}
        return control_topic.read_all(self._consumer, topic)

    def write_control(self, messages: control_topic.Messages) -> None:
        """Write to the group's control topic, which is made if it is not there.

        Returns when all replicas have the messages.

        Raises:
            PipelineError: there is a topic of that name that is not compacted.
        """
        topic = control_topic_of(self.kafka.group_id)
        control_topic.create(self._admin, topic)
        trio.run(control_topic.write, self.kafka, self.client_id, topic, messages)

    def settings(self, topic: str) -> dict[str, str]:
        """Return a topic's settings by Kafka's names; none if this user may not read them."""
        try:
            return control_topic.topic_settings(self._admin, topic)
        except TopicAuthorizationFailedError:
            return {}

    def first_records(self, spans: Spans, seconds: float) -> FirstRecords:
        """Return the first record in each span of offsets.

        Partitions that don't answer within ``seconds`` are omitted.
        """
        return first_records(self._consumer, spans, seconds)
