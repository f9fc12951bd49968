"""The control topic on a real Kafka: written by commands, followed by what runs."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from pipeline.config.model import KafkaConfig
from pipeline.contracts.rule import Rule
from pipeline.contracts.wish import AnyWish, Hold, Pause, Scope
from pipeline.contracts.wish_codec import encode, key_of
from pipeline.contracts.wishes import Wishes
from pipeline.errors import PipelineError
from pipeline.kafka.control_follower import ControlFollower
from pipeline.kafka.control_topic import (
    control_topic_of,
    create,
    read_all,
    topic_settings,
    write,
)
from pipeline.kafka.reader import open_reader
from pipeline.local import Servers
from pipeline.local.waiting import wait_until
from tests.support import topics
from tests.support.acls import Acls
from tests.support.instance import PATIENCE
from tests.support.secured_kafka import SecuredKafka
from tests.support.servers import unique_name

pytestmark = pytest.mark.real

LIVE_SECONDS = 5.0
"""What is promised: so long after its acknowledgement a wish is known everywhere."""


@pytest.fixture
def kafka(servers: Servers, request: pytest.FixtureRequest) -> Iterator[KafkaConfig]:
    """A group whose control topic is removed with the test."""
    servers.kafka.start()
    config = KafkaConfig((servers.bootstrap,), ("events",), unique_name(request))
    yield config
    servers.kafka.start()
    topic = control_topic_of(config.group_id)
    if topics.topic_id(servers.bootstrap, topic) is not None:
        topics.delete_topic(servers.bootstrap, topic)


def pause(number: int = 0) -> Pause:
    return Pause(id=f"p{number}", by="ada@host", since=number, what=Scope(topic="events"))


async def wish(kafka: KafkaConfig, *wishes: AnyWish) -> None:
    """Write wishes as a command does."""
    (server,) = kafka.bootstrap_servers
    topic = control_topic_of(kafka.group_id)
    await trio.to_thread.run_sync(make, server, topic)
    await write(kafka, "test", topic, {key_of(each): encode(each) for each in wishes})


async def take_back(kafka: KafkaConfig, *wishes: AnyWish) -> None:
    topic = control_topic_of(kafka.group_id)
    await write(kafka, "test", topic, dict.fromkeys(map(key_of, wishes)))


def make(server: str, topic: str) -> bool:
    with topics.admin_of(server) as admin:
        return create(admin, topic)


@asynccontextmanager
async def following(kafka: KafkaConfig) -> AsyncIterator[Wishes]:
    """What an instance knows, from when its start may go on."""
    wishes = Wishes()
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(ControlFollower(kafka, "test", wishes).run)
        yield wishes
        nursery.cancel_scope.cancel()


async def until(
    wishes: Wishes, condition: Callable[[Wishes], bool], seconds: float = LIVE_SECONDS
) -> None:
    """Wait for a change that makes the condition true."""
    with trio.fail_after(seconds):
        seen = wishes.version
        while not condition(wishes):
            seen = await wishes.changed(seen)


def ids(wishes: Wishes) -> list[str]:
    return [each.id for each in wishes.pauses()]


async def test_what_was_wished_before_is_known_before_the_start_goes_on(kafka: KafkaConfig) -> None:
    hold = Hold(id="h1", by="a", since=1, rule=Rule("key", "12"), changed=1)
    await wish(kafka, pause(1), pause(2), hold)
    await take_back(kafka, pause(2))
    async with following(kafka) as wishes:
        assert ids(wishes) == ["p1"]
        assert wishes.holds() == [hold]


async def test_a_topic_that_is_made_later_is_live_on_every_instance(kafka: KafkaConfig) -> None:
    async with following(kafka) as one, following(kafka) as other:
        assert ids(one) == ids(other) == []
        await wish(kafka, pause(1))
        for wishes in (one, other):
            await until(wishes, lambda each: ids(each) == ["p1"])
        await wish(kafka, pause(2))
        for wishes in (one, other):
            await until(wishes, lambda each: ids(each) == ["p1", "p2"])
        await take_back(kafka, pause(1))
        for wishes in (one, other):
            await until(wishes, lambda each: ids(each) == ["p2"])


async def test_a_topic_made_anew_holds_what_is_wished_now(kafka: KafkaConfig) -> None:
    (server,) = kafka.bootstrap_servers
    topic = control_topic_of(kafka.group_id)
    await wish(kafka, *map(pause, range(5)))
    async with following(kafka) as wishes:
        await trio.to_thread.run_sync(topics.delete_topic, server, topic)
        await wish(kafka, pause(7))
        await until(wishes, lambda each: ids(each) == ["p7"], PATIENCE)


async def test_a_topic_that_is_deleted_ends_all_wishes_and_says_so(
    kafka: KafkaConfig, caplog: pytest.LogCaptureFixture
) -> None:
    (server,) = kafka.bootstrap_servers
    await wish(kafka, pause(1))
    async with following(kafka) as wishes:
        topic = control_topic_of(kafka.group_id)
        await trio.to_thread.run_sync(topics.delete_topic, server, topic)
        await until(wishes, lambda each: ids(each) == [], PATIENCE)
    assert f"there is no topic {topic} any more" in caplog.text


async def test_while_kafka_is_away_what_was_known_stays(
    servers: Servers, kafka: KafkaConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pipeline.kafka.control_follower")
    await wish(kafka, pause(1), pause(2))
    async with following(kafka) as wishes:
        await trio.to_thread.run_sync(servers.kafka.kill, signal.SIGKILL)
        noticed = partial(
            wait_until, lambda: "can't be read, trying again" in caplog.text, PATIENCE
        )
        assert await trio.to_thread.run_sync(noticed)
        assert ids(wishes) == ["p1", "p2"]
        await trio.to_thread.run_sync(servers.kafka.start)
        await take_back(kafka, pause(1))
        await until(wishes, lambda each: ids(each) == ["p2"], PATIENCE)


async def test_what_a_newer_version_wrote_is_told_once_and_ignored(
    kafka: KafkaConfig, caplog: pytest.LogCaptureFixture
) -> None:
    topic = control_topic_of(kafka.group_id)
    await wish(kafka, pause(1))
    async with following(kafka) as wishes:
        for _ in range(2):
            await write(kafka, "test", topic, {b"heartbeat/i1": b"{}"})
        await wish(kafka, pause(2))
        await until(wishes, lambda each: ids(each) == ["p1", "p2"])
    told = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert told == [
        f"{topic}: a wish is ignored: the kind 'heartbeat' is not known to this version"
    ]


def test_the_topic_is_made_once_and_compacted(kafka: KafkaConfig) -> None:
    (server,) = kafka.bootstrap_servers
    topic = control_topic_of(kafka.group_id)
    assert make(server, topic)
    assert not make(server, topic)
    assert topics.partition_count(server, topic) == 1
    with topics.admin_of(server) as admin:
        assert topic_settings(admin, topic)["cleanup.policy"] == "compact"


def test_a_topic_that_forgets_is_refused(kafka: KafkaConfig) -> None:
    (server,) = kafka.bootstrap_servers
    topic = control_topic_of(kafka.group_id)
    topics.create_topic(server, topic)
    with pytest.raises(PipelineError, match=r"cleanup\.policy=delete"):
        make(server, topic)


async def test_a_command_reads_what_compaction_would_leave(kafka: KafkaConfig) -> None:
    topic = control_topic_of(kafka.group_id)
    await wish(kafka, pause(1), pause(2))
    await take_back(kafka, pause(2))
    with open_reader(kafka, "test") as consumer:
        assert read_all(consumer, topic) == {b"pause/p1": encode(pause(1))}


async def test_without_the_right_to_read_it_the_start_goes_on_and_says_what_to_grant(
    secured_kafka: SecuredKafka, acls: Acls, caplog: pytest.LogCaptureFixture
) -> None:
    options = secured_kafka.options("sasl_plaintext", "PLAIN")
    server = options.pop("bootstrap_servers")[0]
    await wish(KafkaConfig((secured_kafka.bootstrap,), ("events",), "secured"), pause(1))
    user = KafkaConfig((server,), ("events",), "secured", options=options)
    async with following(user) as wishes:
        assert ids(wishes) == []
        acls.grant("app", "READ", "DESCRIBE", topic="secured.control")
        await until(wishes, lambda each: ids(each) == ["p1"], PATIENCE)
    told = [each.message for each in caplog.records if "may not read topic" in each.message]
    assert len(told) == 1
    assert "Grant it Read and Describe" in told[0]
    secured_kafka.delete_topic("secured.control")
