"""The control topic: where the operators' wishes are kept. One partition, compacted, made by commands.

A wish is a message whose key names it (`pipeline.contracts.wish_codec`); the newest message of a key
holds, and one without a value takes the wish back. Compaction keeps the newest of each for ever, so
whoever reads the partition from its beginning knows all wishes. `pipeline run` makes no topic: if there is
none, nothing is wished.

All functions here block, but `write`: they are for commands, and for the follower's own thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

import trio
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError
from pipeline.kafka.producer import AcknowledgedProducer, make_producer

Messages = Mapping[bytes, bytes | None]
"""The newest message of each key; None: it was taken back."""

SUFFIX = ".control"

SETTINGS = {"cleanup.policy": "compact"}

READ_SECONDS = 10.0
"""How long Kafka may send nothing while the topic is read from its beginning."""

POLL_SECONDS = 0.5

DELIVERY_SECONDS = 30.0
"""How long a command waits until its wish is acknowledged by all replicas."""

BLOCK_SECONDS = 10.0


def control_topic_of(group: str) -> str:
    """Return the name of a consumer group's control topic."""
    return group + SUFFIX


def identity_of(admin: KafkaAdminClient, topic: str) -> UUID | None:
    """Return the topic's UUID, which a topic made anew does not share; None if there is none.

    Raises:
        TopicAuthorizationFailedError: this user may not describe it.
        KafkaError: Kafka does not answer, or not as it should.
    """
    (told,) = admin.describe_topics([topic])
    error = for_code(told["error_code"])
    if error is UnknownTopicOrPartitionError:
        return None
    if told["error_code"]:
        raise error(topic)
    return UUID(str(told["topic_id"]))


def create(admin: KafkaAdminClient, topic: str) -> bool:
    """Make the topic if it is not there; return whether it was made. Replication is the cluster's default.

    Raises:
        KafkaError: Kafka refuses it, or does not answer.
        PipelineError: there is such a topic, but it is not compacted.
    """
    if identity_of(admin, topic) is not None:
        _demand_compaction(admin, topic)
        return False
    try:
        admin.create_topics(
            {topic: {"num_partitions": 1, "configs": SETTINGS}}, wait_for_metadata=True
        )
    except TopicAlreadyExistsError:  # another command was quicker
        return False
    return True


def topic_settings(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    """Return every setting of a topic, by Kafka's names.

    Raises:
        TopicAuthorizationFailedError: this user may not read them (DescribeConfigs).
        KafkaError: Kafka does not answer.
    """
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    found = admin.describe_configs([resource], config_filter="all")
    return {name: str(each["value"]) for name, each in found["topic"][topic].items()}


def _demand_compaction(admin: KafkaAdminClient, topic: str) -> None:
    try:
        policy = topic_settings(admin, topic).get("cleanup.policy", "")
    except TopicAuthorizationFailedError:
        return  # without the right to look, it is as its maker made it
    if policy != "compact":
        raise PipelineError(
            f"topic {topic} has cleanup.policy={policy}, so its wishes would be lost with time: set "
            "cleanup.policy=compact on it"
        )


def read_all(consumer: KafkaConsumer, topic: str) -> dict[bytes, bytes]:
    """Read the topic from its beginning to its present end; return the newest message of each key.

    The consumer stands at that end afterwards.

    Raises:
        KafkaError: Kafka does not answer.
        PipelineError: Kafka sent nothing for `READ_SECONDS`.
    """
    place = KafkaPartition(topic, 0)
    consumer.assign([place])
    start = consumer.beginning_offsets([place])[place]
    end = consumer.end_offsets([place])[place]
    consumer.seek(place, start)
    found: dict[bytes, bytes | None] = {}
    deadline = time.monotonic() + READ_SECONDS
    while consumer.position(place) < end:
        news = read_more(consumer)
        found.update(news)
        if news:
            deadline = time.monotonic() + READ_SECONDS
        elif time.monotonic() > deadline:
            raise PipelineError(f"Kafka sent nothing of {topic} for {READ_SECONDS:.0f} s")
    return {key: value for key, value in found.items() if value is not None}


def read_more(consumer: KafkaConsumer) -> dict[bytes, bytes | None]:
    """Wait up to `POLL_SECONDS` for messages; return the newest of each key, in their order.

    Raises:
        KafkaError: Kafka refuses it.
    """
    polled = consumer.poll(timeout_ms=POLL_SECONDS * 1000)
    return {record.key or b"": record.value for records in polled.values() for record in records}


async def write(kafka: KafkaConfig, client_id: str, topic: str, messages: Messages) -> None:
    """Write messages in their order; return when all replicas have them.

    A checkpoint. Cancelled, any of them may be written.

    Raises:
        KafkaError, OSError: one was refused, or not acknowledged within `DELIVERY_SECONDS`; it may be
            written nevertheless.
    """
    make = partial(make_producer, kafka, client_id, **_producer_options())
    producer = AcknowledgedProducer(await trio.to_thread.run_sync(make), make)
    try:
        for key, value in messages.items():
            await producer.send(topic, key=key, value=value, partition=0)
    finally:
        with trio.CancelScope(shield=True):  # bounded by the producer itself; its thread would stay
            await producer.close()


def _producer_options() -> dict[str, Any]:
    return {
        "max_block_ms": int(BLOCK_SECONDS * 1000),
        "delivery_timeout_ms": int(DELIVERY_SECONDS * 1000),
        "request_timeout_ms": int(DELIVERY_SECONDS * 1000) // 2,
    }
