"""The facts about Kafka: which topics exist, and how many partitions they have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import trio
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from pipeline.config.model import Config
from pipeline.errors import one_line
from pipeline.kafka.options import connection_options

CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 4.0

ABSENT = "does not exist: create it"
"""The problem of a topic that does not exist."""


@attrs.frozen
class KafkaFacts:
    """What Kafka answered.

    Attributes:
        topics: topic → its number of partitions, or what is wrong with it (`ABSENT`, for example).
        problem: why nothing is known of any topic; None if Kafka answered.
    """

    topics: Mapping[str, int | str]
    problem: str | None = None

    def partitions(self, topic: str) -> int | None:
        """Return the number of partitions of a topic; None if it is not known."""
        count = self.topics.get(topic)
        return count if isinstance(count, int) else None


async def ask_kafka(config: Config) -> KafkaFacts:
    """Ask for the configured topics, for `CONNECT_SECONDS` and `ANSWER_SECONDS` at most.

    A checkpoint. If the time is over, or it is cancelled, the thread that asks is left behind:
    kafka-python's own deadlines end it.
    """
    with trio.move_on_after(CONNECT_SECONDS + ANSWER_SECONDS):
        try:
            topics = await trio.to_thread.run_sync(partial(_topics, config), abandon_on_cancel=True)
            return KafkaFacts(topics)
        except (KafkaError, OSError, ValueError) as error:
            return KafkaFacts({}, _problem(error))
    return KafkaFacts({}, f"no answer within {CONNECT_SECONDS + ANSWER_SECONDS:.0f} s")


def _problem(error: Exception) -> str:
    if type(error).__name__ in ("NoBrokersAvailable", "KafkaTimeoutError"):
        return f"no broker answers within {CONNECT_SECONDS:.0f} s"
    return one_line(error)


def _topics(config: Config) -> dict[str, int | str]:
    wanted = list(config.kafka.topics)
    if config.errors.dead_letter_topic is not None:
        wanted.append(config.errors.dead_letter_topic)
    admin = KafkaAdminClient(**_options(config))
    try:
        described = admin.describe_topics(wanted)
    finally:
        admin.close()
    return {topic["name"]: _count(topic) for topic in described}


def _count(topic: Mapping[str, Any]) -> int | str:
    if topic["error_code"]:
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            return ABSENT
        return f"can't be used: {error.description or error.__name__}"
    return len(topic["partitions"])


def _options(config: Config) -> dict[str, Any]:
    """Return the configured options of the connection, with deadlines of the check's own."""
    name, known = f"{config.pipeline.name}-check", KafkaAdminClient.DEFAULT_CONFIG
    return {
        **connection_options(config.kafka, name, known),
        "bootstrap_timeout_ms": int(CONNECT_SECONDS * 1000),
        "request_timeout_ms": int(ANSWER_SECONDS * 1000),
    }
