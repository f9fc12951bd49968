"""The dead letter topic itself: whether it can be written, why not, and what was kept lately."""

from __future__ import annotations

import logging
import time
from datetime import datetime

from kafka import KafkaAdminClient
from kafka.consumer.group import KafkaConsumer
from kafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
    for_code,
)
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.config.model import KafkaConfig
from pipeline.errors import one_line
from pipeline.kafka.errors import no_permission
from pipeline.kafka.letter_forms import REFUSALS, TOO_LARGE, UNSENDABLE
from pipeline.kafka.options import reaching_options
from pipeline.kafka.reader import open_reader
from pipeline.kafka.rights import WRITE, may

BEYOND_MENDING = (InvalidTopicError, UnsupportedVersionError, *UNSENDABLE)
"""No name of a topic; brokers too old for an idempotent producer; what the client can't write at all."""

log = logging.getLogger(__name__)

FAILED_AT = "pipeline.failed-at"
"""The header that says when a record became a dead letter."""

READ_SECONDS = 5.0
"""How long the newest dead letters are read at the start; what is not read by then is not counted."""


def advice(error: BaseException, topic: str) -> str:
    """One line: why a dead letter topic takes no record, and what to do."""
    if isinstance(error, TopicAuthorizationFailedError):
        return no_permission("Write", "topic", topic)
    if isinstance(error, ClusterAuthorizationFailedError) or "ClusterAuthorization" in str(error):
        return (
            f"{no_permission('Write', 'topic', topic)} (before Kafka 2.8 also IdempotentWrite on the "
            "cluster)"
        )
    if isinstance(error, UnknownTopicOrPartitionError):
        return f"the dead letter topic {topic} does not exist: create it"
    if isinstance(error, KafkaTimeoutError):
        return (
            f"the dead letter topic {topic} does not answer ({one_line(error)}): does it exist, and "
            "has each of its partitions a leader and enough replicas in sync?"
        )
    if isinstance(error, TOO_LARGE):
        return (
            f"the dead letter topic {topic} takes not even a reference to it, of some 500 bytes: raise "
            "max.message.bytes of the topic"
        )
    if isinstance(error, REFUSALS):
        return (
            f"the dead letter topic {topic} refuses it in every form ({one_line(error)}): it must take "
            "records of any kind, so give it cleanup.policy=delete, and no rules for keys, values or "
            "timestamps"
        )
    return f"the dead letter topic {topic} refuses it: {one_line(error)}"


def beyond_mending(error: BaseException) -> bool:
    """Whether no person can mend at the brokers what a dead letter topic answers."""
    return isinstance(error, BEYOND_MENDING)


def problem_of(kafka: KafkaConfig, client_id: str, topic: str) -> str | None:
    """Return why a topic can't be written, None if it can, as far as the brokers tell. Blocks.

    Raises:
        KafkaError, OSError: no broker answers.
    """
    admin = KafkaAdminClient(**reaching_options(kafka, client_id, KafkaAdminClient.DEFAULT_CONFIG))
    try:
        (told,) = admin.describe_topics([topic])
    finally:
        admin.close()
    if told["error_code"]:
        return advice(for_code(told["error_code"])(), topic)
    if not may(told, WRITE):
        return advice(TopicAuthorizationFailedError(), topic)
    return None


def recently_kept(
    kafka: KafkaConfig, client_id: str, topic: str, within: float, most: int
) -> list[float]:
    """Return how many seconds ago this group's newest dead letters were kept, the oldest first.

    Blocks, for `READ_SECONDS` at most. Raises nothing: without the right to read the topic, nothing
    is known.

    Args:
        within: seconds; older ones are left out.
        most: how many are read of each partition.
    """
    try:
        with open_reader(kafka, client_id, metrics_enabled=False) as consumer:
            return _ages(consumer, topic, kafka.group_id, within, most)
    except (KafkaError, OSError) as error:
        log.info("the newest dead letters can't be read, and are not counted: %s", one_line(error))
        return []


def _ages(consumer: KafkaConsumer, topic: str, group: str, within: float, most: int) -> list[float]:
    places = [KafkaPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
    starts, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    todo = {place for place in places if ends[place] > starts[place]}
    consumer.assign(todo)
    for place in todo:
        consumer.seek(place, max(starts[place], ends[place] - most))
    ages = []
    deadline = time.monotonic() + READ_SECONDS
    while todo and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=250).values():
            for record in records:
                headers = dict(record.headers)
                if headers.get("pipeline.group") == group.encode() and FAILED_AT in headers:
                    failed_at = datetime.fromisoformat(headers[FAILED_AT].decode())
                    ages.append(time.time() - failed_at.timestamp())
        todo = {place for place in todo if consumer.position(place) < ends[place]}
    return sorted((age for age in ages if 0 <= age < within), reverse=True)
