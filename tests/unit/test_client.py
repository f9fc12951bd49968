"""The consumer client, where kafka-python's consumer does what a real one does only now and then."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from kafka.errors import KafkaConnectionError

from pipeline.config import KafkaConfig
from pipeline.consumer import client as client_module
from pipeline.consumer.client import KafkaClient
from pipeline.records import TopicPartition
from pipeline.store import PipelineError

SOURCE = TopicPartition("topic", 0)


class Stand:
    """What every stand-in for a consumer has."""

    config: ClassVar = {"auto_offset_reset": "earliest"}


class Closing(Stand):
    """A consumer whose I/O loop ends under whatever is asked of it, as kafka-python's does."""

    def close(self, **_: Any) -> None: ...

    def end_offsets(self, *_: Any, **__: Any) -> dict[Any, int]:
        raise RuntimeError("NetworkSelector closed!")

    commit = end_offsets


class Away(Stand):
    """A consumer that loses its first call for a topic's id to a broker that is away."""

    def __init__(self) -> None:
        self._cluster = self
        self.asked = 0

    def topic_id(self, _: str) -> int | None:
        return 7 if self.asked > 1 else None

    def partitions_for_topic(self, _: str) -> None:
        self.asked += 1
        if self.asked == 1:
            raise KafkaConnectionError("away")


async def test_what_asks_while_the_consumer_closes_waits_to_be_cancelled() -> None:
    """It ended the program with exit code 1 in the middle of a clean stop."""
    client = KafkaClient(Closing(), compiled=True)
    await client.close()
    for ask in (lambda: client.ends([SOURCE]), lambda: client.commit({SOURCE: (1, "")})):
        with trio.move_on_after(0.2) as scope:
            await ask()
        assert scope.cancelled_caught


async def test_the_same_error_is_raised_where_nothing_closes() -> None:
    with pytest.raises(RuntimeError, match="NetworkSelector closed"):
        await KafkaClient(Closing(), compiled=True).ends([SOURCE])


async def test_a_topics_id_is_asked_for_until_kafka_answers() -> None:
    """A broker that was away just when a partition was assigned ended the program."""
    assert await KafkaClient(Away(), compiled=True).topic_id("topic") == 7


async def test_a_broker_that_is_back_is_found_within_a_second_or_as_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By kafka-python's default it took up to 30 s more than the broker did."""
    given: list[dict[str, Any]] = []

    def refuse(**options: Any) -> None:
        given.append(options)
        raise KafkaConnectionError("away")

    monkeypatch.setattr(client_module, "KafkaConsumer", refuse)
    for options in ({}, {"reconnect_backoff_max_ms": 9000}):
        with pytest.raises(PipelineError):
            await KafkaClient.open(KafkaConfig(("b:1",), ("t",), "g", options), "name")
    assert [options["reconnect_backoff_max_ms"] for options in given] == [1000, 9000]
