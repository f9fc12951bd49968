"""The consumer client, where kafka-python's consumer does what a real one does only now and then."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

import pytest
import trio
import trio.testing
from kafka.errors import (
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    KafkaConnectionError,
    LogTruncationError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
)
from kafka.structs import OffsetAndMetadata
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.config.model import KafkaConfig
from pipeline.contracts.kafka import AssignmentEvent, Change, LogMoved, Position
from pipeline.errors import PipelineError
from pipeline.kafka import options as options_module
from pipeline.kafka.client import KafkaClient
from pipeline.kafka.errors import in_words
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

    unauthorized_topics: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        self._cluster = self._net = self._manager = self
        self.asked = 0

    def request_update(self) -> None:
        self.asked += 1

    def wait_for(self, *_: Any) -> None:
        if self.asked == 1:
            raise KafkaConnectionError("away")

    def run(self, work: Any, *args: Any) -> None:
        work(*args)

    def subscription(self) -> set[str]:
        return {"topic", "missing"}

    def topic_id(self, _: str) -> UUID:
        return UUID(int=7)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0} if topic == "topic" else None


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
    assert await client_of(Away()).topic_id("topic") == UUID(int=7)


async def test_the_ids_of_topics_that_are_subscribed_to_and_which_do_not_exist() -> None:
    client = client_of(Away())
    assert await client.topic_ids() == {}, "Kafka is away"
    assert await client.topic_ids() == {"topic": UUID(int=7), "missing": None}


class Moved(Amid):
    """A consumer with nothing at the position of a partition, each time that it is polled."""

    def _poll_once(self, *_: Any) -> dict[TopicPartition, list[str]]:
        raise OffsetOutOfRangeError({SOURCE: 3})

    class _net:
        @staticmethod
        def run(work: Callable[[], object]) -> None:
            work()

    def pause(self, *_: Any) -> None: ...

    resume = seek = pause

    def assignment(self) -> set[TopicPartition]:
        return {SOURCE}


async def test_an_offset_out_of_range_is_told_once_until_its_task_seeks() -> None:
    client = client_of(Moved())
    for _ in range(3):
        assert await client.poll() == {}
    client.resume(SOURCE)  # its buffer has room again
    assert await client.poll() == {}
    assert client.events.receive_nowait() == LogMoved(SOURCE, 3)
    with pytest.raises(trio.WouldBlock):
        client.events.receive_nowait()
    client.seek_and_resume(SOURCE, 3)
    assert await client.poll() == {}
    assert client.events.receive_nowait() == LogMoved(SOURCE, 3)


async def test_a_log_that_was_cut_is_told_with_the_offset() -> None:
    class Cut(Moved):
        def _poll_once(self, *_: Any) -> dict[TopicPartition, list[str]]:
            cut = OffsetAndMetadata(2, "", 1)
            raise LogTruncationError({KafkaPartition(*SOURCE): cut, KafkaPartition(*OTHER): None})

    client = client_of(Cut())
    assert await client.poll() == {}
    assert client.events.receive_nowait() == LogMoved(SOURCE, cut=2)
    assert client.events.receive_nowait() == LogMoved(OTHER)


@pytest.mark.parametrize("error", [FencedInstanceIdError(), GroupAuthorizationFailedError("g")])
async def test_a_commit_that_no_retry_mends_ends_the_program(error: Exception) -> None:
    """It was a warning, and the instance went on as a zombie."""

    class Fenced(Stand):
        def commit(self, *_: Any, **__: Any) -> None:
            raise error

    with pytest.raises(PipelineError, match=r"group_instance_id|grant Read on group"):
        await client_of(Fenced()).commit({SOURCE: (1, "")})


@pytest.mark.parametrize("error", [FencedInstanceIdError(), GroupAuthorizationFailedError("g")])
async def test_a_heartbeat_that_ends_the_membership_ends_the_program(error: Exception) -> None:
    class Fenced(Amid):
        async def _send_heartbeat_request(self) -> None:
            raise error

    consumer = Fenced()
    client = client_of(consumer)
    assert await client.poll()
    with pytest.raises(type(error)):
        await consumer._send_heartbeat_request()
    with pytest.raises(PipelineError, match=r"group_instance_id|grant Read on group"):
        await client.poll()


async def test_a_heartbeat_that_fails_for_a_while_ends_nothing() -> None:
    class Slow(Amid):
        async def _send_heartbeat_request(self) -> None:
            raise RebalanceInProgressError

    consumer = Slow()
    client = client_of(consumer)
    with pytest.raises(RebalanceInProgressError):
        await consumer._send_heartbeat_request()
    assert await client.poll()


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


def test_another_assignor_in_the_group_is_told_by_what_it_means() -> None:
    """It was told as an InconsistentGroupProtocolError that is tried again."""
    told = in_words(InconsistentGroupProtocolError())
    assert "a program that is not this one uses the same group" in told
