"""The consumer client, where kafka-python's consumer does what a real one does only now and then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from kafka.errors import KafkaConnectionError

from pipeline.config.model import KafkaConfig
from pipeline.contracts.kafka import AssignmentEvent, Change, Position
from pipeline.errors import PipelineError
from pipeline.kafka import options as options_module
from pipeline.kafka.client import KafkaClient
from pipeline.records.record import TopicPartition

SOURCE, OTHER = TopicPartition("topic", 0), TopicPartition("topic", 1)


def client_of(consumer: Any) -> KafkaClient:
    """The client of a stand-in, which is no consumer to the type checker."""
    return KafkaClient(consumer)


class Stand:
    """What every stand-in for a consumer has."""

    _coordinator: Any = SimpleNamespace(_send_heartbeat_request=None)
    _send_heartbeat_request: Any = None
    config: ClassVar = {
        "auto_offset_reset": "earliest",
        "max_poll_records": 1,
        "fetch_max_wait_ms": 500,
    }


class Closing(Stand):
    """A consumer whose I/O loop ends under whatever is asked of it, as kafka-python's does."""

    def close(self, **_: Any) -> None: ...

    def end_offsets(self, *_: Any, **__: Any) -> dict[Any, int]:
        raise RuntimeError("NetworkSelector closed!")

    def leader_for_partition(self, _: Any) -> int:
        return 1

    _cluster = property(lambda self: self)

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


class Amid(Stand):
    """A consumer whose partition is given up just when a poll has records of it."""

    def __init__(self) -> None:
        self._fetcher = self._coordinator = self
        self._next_partition_records = None
        self.client: KafkaClient | None = None
        self.rejoining = False

    def need_rejoin(self) -> bool:
        return False

    def _poll_once(self, *_: Any) -> dict[TopicPartition, list[str]]:
        if self.client is not None:
            event = AssignmentEvent(Change.REVOKED, (SOURCE,), lambda: None)
            self.client._token.run_sync_soon(self.client._receive, event)
            self.client = None
        return {SOURCE: ["batch"], OTHER: ["batch"]}


async def test_records_of_a_partition_are_not_handed_out_after_it_was_given_up() -> None:
    """It may be assigned again before the poll returns, to a task that reads from elsewhere."""
    consumer = Amid()
    consumer.client = client = client_of(consumer)
    assert list(await client.poll()) == [OTHER]
    assert list(await client.poll()) == [SOURCE, OTHER]


async def test_what_asks_while_the_consumer_closes_waits_to_be_cancelled() -> None:
    """It ended the program with exit code 1 in the middle of a clean stop."""
    client = client_of(Closing())
    await client.close()
    for ask in (lambda: client.ends([SOURCE]), lambda: client.commit({SOURCE: (1, "")})):
        with trio.move_on_after(0.2) as scope:
            await ask()
        assert scope.cancelled_caught


async def test_the_same_error_is_raised_where_nothing_closes() -> None:
    with pytest.raises(RuntimeError, match="NetworkSelector closed"):
        await client_of(Closing()).ends([SOURCE])


async def test_a_topics_id_is_asked_for_until_kafka_answers() -> None:
    """A broker that was away just when a partition was assigned ended the program."""
    assert await client_of(Away()).topic_id("topic") == 7


class Partly(Stand):
    """As kafka-python where of two partitions only the first has a leader, or as metadata say."""

    def __init__(self, leaders: dict[int, int | None]) -> None:
        self._cluster = self._coordinator = self
        self.leaders = leaders
        self.updates = 0

    def leader_for_partition(self, source: Any) -> int | None:
        return self.leaders.get(source.partition)

    def request_update(self) -> None:
        self.updates += 1

    def end_offsets(self, sources: list[Any], **_: Any) -> dict[Any, int]:
        return {source: {0: 5}[source.partition] for source in sources}

    beginning_offsets = end_offsets

    def fetch_committed_offsets(self, *_: Any, **__: Any) -> dict[Any, Any]:
        return {}


@pytest.mark.parametrize("leader", [None, -1])
async def test_a_partition_without_a_leader_holds_up_no_other(leader: int | None) -> None:
    """kafka-python raised a KeyError, which ended the program."""
    consumer = Partly({0: 1, 1: leader})
    client = client_of(consumer)
    both = [SOURCE, TopicPartition("topic", 1)]
    assert await client.ends(both) == {SOURCE: 5}
    assert await client.positions(both) == {SOURCE: Position(None, "", 5, 5, 5)}
    assert await client.positions(both[1:]) == {}
    assert consumer.updates == 3


async def test_a_leader_that_goes_while_ends_are_asked_for_is_as_one_that_is_away() -> None:
    client = client_of(Partly({0: 1, 1: 1}))
    assert await client.ends([SOURCE, TopicPartition("topic", 1)]) == {}


@pytest.mark.parametrize(
    ("option", "ours"), [("reconnect_backoff_max_ms", 1000), ("heartbeat_interval_ms", 500)]
)
async def test_partitions_wait_as_little_as_they_can_or_as_configured(
    monkeypatch: pytest.MonkeyPatch, option: str, ours: int
) -> None:
    """By kafka-python's defaults 30 s for a broker that is back, and 3 s in a hand-over."""
    given: list[dict[str, Any]] = []

    def refuse(**options: Any) -> None:
        given.append(options)
        raise KafkaConnectionError("away")

    monkeypatch.setattr(options_module, "KafkaConsumer", refuse)
    for options in ({}, {option: 9000}):
        with pytest.raises(PipelineError):
            await KafkaClient.open(KafkaConfig(("b:1",), ("t",), "g", options), "name")
    assert [options[option] for options in given] == [ours, 9000]
