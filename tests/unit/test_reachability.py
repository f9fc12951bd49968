"""Kafka goes and comes back: two lines."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

from typing import Any

import pytest
import trio
from kafka.errors import KafkaTimeoutError
from trio.testing import MockClock

from pipeline.kafka.client import KafkaClient
from pipeline.records.record import TopicPartition

SOURCE = TopicPartition("topic", 0)


def client_of(consumer: Any) -> KafkaClient:
    """The client of a stand-in, which is no consumer to the type checker."""
    return KafkaClient(consumer)


class Broken:
    """A consumer that knows where logs end while Kafka is there."""

    config = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 500}  # noqa: RUF012

    def __init__(self) -> None:
        self.away = False
        self._send_heartbeat_request: Any = None
        self._cluster = self._coordinator = self

    def leader_for_partition(self, _: Any) -> int:
        return 1

    def end_offsets(self, partitions: list[Any], **_: Any) -> dict[Any, int]:
        if self.away:
            raise KafkaTimeoutError("no broker")
        return dict.fromkeys(partitions, 5)


async def test_one_line_when_kafka_goes_and_one_when_it_is_back(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Broken()
    client = client_of(consumer)
    assert await client.ends([SOURCE]) == {SOURCE: 5}
    consumer.away = True
    for _ in range(20):
        assert await client.ends([SOURCE]) == {}
        await trio.sleep(1)
    consumer.away = False
    for _ in range(3):
        assert await client.ends([SOURCE]) == {SOURCE: 5}
    (gone, back) = [record.getMessage() for record in caplog.records]
    assert gone.startswith("Kafka does not answer: ")
    assert gone.count("KafkaTimeoutError") == 1
    assert back == "Kafka answers again, after 20 s"
