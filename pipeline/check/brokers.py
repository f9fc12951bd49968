"""The facts about Kafka: servers, topics and their partitions, rights, and whether the options serve."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

import attrs
import trio
from kafka import KafkaAdminClient
from kafka.errors import (
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from pipeline.config.model import Config
from pipeline.kafka.bootstrap import SERVER_SECONDS, unusable_servers
from pipeline.kafka.control_topic import topic_settings
from pipeline.kafka.errors import no_permission, unusable
from pipeline.kafka.options import make_consumer, reaching_options
from pipeline.kafka.rights import READ, WRITE, may, missing_on_group

ANSWER_SECONDS = 4.0

ABSENT = "does not exist: create it"
"""The problem of a topic that does not exist."""


@attrs.frozen
class KafkaFacts:
    """What Kafka answered.

    Attributes:
        topics: topic → its number of partitions, or what is wrong with it (`ABSENT`, for example).
        problem: why nothing is known of any topic; None if Kafka answered.
        denied: topic → what to grant, so that it can be read, or written if it is the dead letters'.
        group_denied: what to grant, so that the group can be joined; empty if it can.
        dead_letters_unread: what to grant, so that dead letters can be looked at; empty if they can.
        away: server → why it can't be used, though another can.
        settings: topic → its settings by Kafka's names, if records may have to wait there; empty where this
            user may not read them.
    """

    topics: Mapping[str, int | str]
    problem: str | None = None
    denied: Mapping[str, str] = attrs.field(factory=dict)
    group_denied: str = ""
    dead_letters_unread: str = ""
    away: Mapping[str, str] = attrs.field(factory=dict)
    settings: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)

    def partitions(self, topic: str) -> int | None:
        """Return the number of partitions of a topic; None if it is not known."""
        count = self.topics.get(topic)
        return count if isinstance(count, int) else None


def patience(config: Config) -> float:
    """Return how many seconds Kafka is given: for each server, and for what is asked of one."""
    return SERVER_SECONDS * len(config.kafka.bootstrap_servers) + 2 * ANSWER_SECONDS


async def ask_kafka(config: Config) -> KafkaFacts:
    """Ask for servers, topics and rights, and make a consumer as `run` does, within `patience`.

    A checkpoint. If the time is over, or it is cancelled, the thread that asks is left behind:
    kafka-python's own deadlines end it.
    """
    with trio.move_on_after(patience(config)):
        try:
            return await trio.to_thread.run_sync(partial(_look, config), abandon_on_cancel=True)
        except (KafkaError, OSError, ValueError) as error:
            return KafkaFacts({}, str(unusable(config.kafka, error)))
    why = TimeoutError(f"no answer within {patience(config):.0f} s")
    return KafkaFacts({}, str(unusable(config.kafka, why)))


def _look(config: Config) -> KafkaFacts:
    """Ask the servers one by one, then one of them. Blocks."""
    away = unusable_servers(config.kafka)
    name = f"{config.pipeline.name}-check"
    wanted = dict.fromkeys(config.kafka.topics, READ)
    dead_letters = config.errors.dead_letter_topic
    if dead_letters is not None:
        wanted[dead_letters] = WRITE
    with closing(KafkaAdminClient(**_options(config, name))) as admin:
        described = {topic["name"]: topic for topic in admin.describe_topics(list(wanted))}
        group_denied = missing_on_group(admin, config.kafka.group_id)
        there = [topic for topic in config.kafka.topics if not described[topic]["error_code"]]
        waiting = there if config.errors.waits else []
        settings = {topic: _settings(admin, topic) for topic in waiting}
    with closing(make_consumer(config.kafka, name)):
        pass  # in no group before it is polled; an option that kafka-python refuses is told here
    denied = {
        topic: no_permission(wanted[topic].title(), "topic", topic)
        for topic, told in described.items()
        if not may(told, wanted[topic])
    }
    unread = ""
    if dead_letters is not None and not may(described[dead_letters], READ):
        unread = no_permission("Read", "topic", dead_letters)
    counts = {topic: _count(told) for topic, told in described.items() if topic not in denied}
    return KafkaFacts(counts, None, denied, "".join(group_denied), unread, away, settings)


def _settings(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    try:
        return topic_settings(admin, topic)
    except TopicAuthorizationFailedError:
        return {}


def _count(topic: Mapping[str, Any]) -> int | str:
    if topic["error_code"]:
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            return ABSENT
        return f"can't be used: {error.description or error.__name__}"
    return len(topic["partitions"])


def _options(config: Config, name: str) -> dict[str, Any]:
    """Return the configured options of the connection, with deadlines of the check's own."""
    return {
        **reaching_options(config.kafka, name, KafkaAdminClient.DEFAULT_CONFIG),
        "bootstrap_timeout_ms": int(ANSWER_SECONDS * 1000),
        "request_timeout_ms": int(ANSWER_SECONDS * 1000),
    }
