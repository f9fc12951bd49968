"""Kafka's part of the facts: which topics there are, and how many partitions they have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import trio
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from pipeline.config.model import Config
from pipeline.kafka.options import connection_options

CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 4.0

ABSENT = "does not exist: create it"
"""What is told of a topic that Kafka has not."""


@attrs.frozen
class KafkaFacts:
    """Attributes:
    topics: topic → how many partitions, or what is wrong with it (``ABSENT``, or not allowed).
    problem: why nothing is known of any topic; None where Kafka answered.
    """

    topics: Mapping[str, int | str]
    problem: str | None = None

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None where that is not known."""
        count = self.topics.get(topic)
        return count if isinstance(count, int) else None


async def ask_kafka(config: Config) -> KafkaFacts:
    """Ask for the configured topics. A checkpoint; at most `CONNECT_SECONDS` and `ANSWER_SECONDS`.

    The thread is left behind when the time is over: kafka-python's own deadlines end it.
    """
    with trio.move_on_after(CONNECT_SECONDS + ANSWER_SECONDS):
        try:
            topics = await trio.to_thread.run_sync(partial(_topics, config), abandon_on_cancel=True)
            return KafkaFacts(topics)
        except (KafkaError, OSError, ValueError) as error:
            return KafkaFacts({}, _problem(error))
    return KafkaFacts({}, f"no answer within {CONNECT_SECONDS + ANSWER_SECONDS:.0f} s")


def _problem(error: Exception) -> str:
    name, text = type(error).__name__, str(error)
    if name in ("NoBrokersAvailable", "KafkaTimeoutError"):
        return f"no broker answers within {CONNECT_SECONDS:.0f} s"
    return text if name in text else f"{name}: {text}"


def _topics(config: Config) -> dict[str, int | str]:
    wanted = list(config.kafka.topics)
    if config.errors.dead_letter_topic is not None:
        wanted.append(config.errors.dead_letter_topic)
    admin = KafkaAdminClient(**_options(config))
    try:
        told = admin.describe_topics(wanted)
    finally:
        admin.close()
    return {topic["name"]: _count(topic) for topic in told}


def _count(topic: Mapping[str, Any]) -> int | str:
    if topic["error_code"]:
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            return ABSENT
        return f"can't be used: {error.description or error.__name__}"
    return len(topic["partitions"])


def _options(config: Config) -> dict[str, Any]:
    """The connection's options as configured; the deadlines are the check's own."""
    name, known = f"{config.pipeline.name}-check", KafkaAdminClient.DEFAULT_CONFIG
    return {
        **connection_options(config.kafka, name, known),
        "bootstrap_timeout_ms": int(CONNECT_SECONDS * 1000),
        "request_timeout_ms": int(ANSWER_SECONDS * 1000),
    }
