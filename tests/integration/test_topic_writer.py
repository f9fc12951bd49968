"""Records on their way into a real Kafka: acknowledged, refused, in order, and never lost."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError
from pipeline.kafka.batch_builder import Message
from pipeline.kafka.delivery import Delivery, NotDelivered, Outcome
from pipeline.kafka.topic_writer import TopicWriter, make_topic_producer
from pipeline.local import Servers
from tests.support import accounts, topics
from tests.support.acls import Acls
from tests.support.brokers import Cluster
from tests.support.instance import PATIENCE
from tests.support.secured_kafka import SecuredKafka
from tests.support.servers import TopicFactory

pytestmark = pytest.mark.real


def config_of(bootstrap: str, **options: Any) -> KafkaConfig:
    return KafkaConfig(tuple(bootstrap.split(",")), ("unused",), "unused", options)


@asynccontextmanager
async def writing(config: KafkaConfig, topic: str) -> AsyncIterator[TopicWriter]:
    writer = TopicWriter(config, topic, "pipeline-tests")
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


def messages(*values: str | bytes) -> list[Message]:
    return [(b"k", v.encode() if isinstance(v, str) else v, []) for v in values]


async def outcomes(delivery: Delivery) -> Sequence[Outcome]:
    with trio.fail_after(PATIENCE):
        await delivery.done.wait()
    return delivery.outcomes


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 (of other threads and programs)
            await trio.sleep(0.05)


def values(bootstrap: str, topic: str, partition: int = 0) -> list[bytes]:
    return [record.value for record in accounts.read_topic(bootstrap, topic)[partition]]


async def read(bootstrap: str, topic: str, partition: int = 0) -> list[bytes]:
    return await trio.to_thread.run_sync(values, bootstrap, topic, partition)


async def test_what_is_acknowledged_is_at_the_offset_that_is_told(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(2)
    async with writing(config_of(servers.bootstrap), name) as writer:
        assert writer.partitions == 2
        assert writer.topic_id == await trio.to_thread.run_sync(
            topics.topic_id, servers.bootstrap, name
        )
        several = [writer.send(1, messages(f"{n}a", f"{n}b")) for n in range(50)]
        found = [offset for each in several for offset in await outcomes(each)]
        await writer.wait_idle()
        assert (writer.pending_records, writer.pending_bytes) == (0, 0)
    there = await read(servers.bootstrap, name, 1)
    assert found == list(range(100))
    assert there == [f"{n}{half}".encode() for n in range(50) for half in "ab"]


async def test_a_record_that_is_too_large_is_refused_alone(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1, max_message_bytes="20000")
    async with writing(config_of(servers.bootstrap), name) as writer:
        first = writer.send(0, messages(*(f"{n}" * 1000 for n in range(9))))
        large = writer.send(0, messages("before", b"x" * 30_000, "after"))
        rest = writer.send(0, messages(*(f"{n}" for n in range(2000))))
        assert all(isinstance(each, int) for each in await outcomes(first))
        before, refused, after = await outcomes(large)
        assert isinstance(refused, NotDelivered)
        assert (refused.reason, refused.perhaps_written) == ("too-large", False)
        assert isinstance(before, int)
        assert after == before + 1
        assert await outcomes(rest) == list(range(after + 1, after + 2001))
        assert writer.accepts(0)
    assert len(await read(servers.bootstrap, name)) == 9 + 2 + 2000


async def test_batches_larger_than_the_topic_takes_are_divided_and_stay_in_order(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1, max_message_bytes="30000")
    sent = [f"{n:05}" * 20 for n in range(5000)]  # in one batch: half a megabyte
    async with writing(config_of(servers.bootstrap), name) as writer:
        assert await outcomes(writer.send(0, messages(*sent))) == list(range(5000))
    assert await read(servers.bootstrap, name) == [value.encode() for value in sent]


async def test_nothing_acknowledged_is_lost_and_the_order_is_kept_while_the_broker_is_killed(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1)
    deliveries: list[Delivery] = []

    async def load(writer: TopicWriter) -> None:
        while True:
            if writer.accepts(0) and writer.trouble is None:
                deliveries.append(writer.send(0, messages(str(len(deliveries)))))
            await trio.sleep(0.001)

    async def some_more() -> None:
        enough = len(deliveries) + 100
        await until(lambda: len(deliveries) > enough)

    async with writing(config_of(servers.bootstrap), name) as writer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load, writer)
            for _ in range(2):
                await some_more()
                await trio.to_thread.run_sync(servers.kafka.kill, signal.SIGKILL)
                await until(lambda: not writer.accepts(0) or writer.trouble is not None)
                await trio.to_thread.run_sync(servers.kafka.start)
                await until(lambda: writer.accepts(0) and writer.trouble is None)
            await some_more()
            nursery.cancel_scope.cancel()
        for each in deliveries:
            await outcomes(each)
    there = [int(value) for value in await read(servers.bootstrap, name)]
    told = {int(d.messages[0][1]): d.outcomes[0] for d in deliveries}
    for number, outcome in told.items():
        if isinstance(outcome, int):
            assert there[outcome] == number
        elif not outcome.perhaps_written:
            assert number not in there
    assert there == sorted(set(there))


async def test_an_absent_broker_is_known_before_anybody_waits_for_it(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1)
    async with writing(config_of(servers.bootstrap), name) as writer:
        await trio.to_thread.run_sync(servers.kafka.kill, signal.SIGKILL)
        try:
            await until(lambda: writer.trouble is not None)
            assert writer.trouble is not None
            assert writer.trouble.reason == "away"
        finally:
            await trio.to_thread.run_sync(servers.kafka.start)
        await until(lambda: writer.trouble is None)
        assert await outcomes(writer.send(0, messages("a"))) == [0]


@pytest.mark.slow
async def test_what_waits_too_long_is_given_up_and_one_record_at_a_time_tries_again(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1)
    async with writing(config_of(servers.bootstrap), name) as writer:
        assert await outcomes(writer.send(0, messages("a"))) == [0]
        servers.kafka.kill(signal.SIGSTOP)
        try:
            lost = writer.send(0, messages("b"))  # reaches the broker's socket, and no answer comes
            queued = writer.send(0, messages("c"))
            await until(lambda: not writer.accepts(0))
            await trio.to_thread.run_sync(servers.kafka.kill, signal.SIGKILL)
            for each in (lost, queued):
                (outcome,) = await outcomes(each)
                assert isinstance(outcome, NotDelivered)
                assert outcome.reason == "away"
            assert writer.accepts(0)
            writer.send(0, messages("d"))
            assert not writer.accepts(0)
        finally:
            await trio.to_thread.run_sync(servers.kafka.start)
        await until(lambda: writer.accepts(0) and writer.trouble is None)
        (offset,) = await outcomes(writer.send(0, messages("e")))
        assert isinstance(offset, int)
    assert (await read(servers.bootstrap, name))[offset] == b"e"


async def test_a_topic_that_is_deleted_is_told_and_its_return_too(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1)
    async with writing(config_of(servers.bootstrap), name) as writer:
        assert await outcomes(writer.send(0, messages("a"))) == [0]
        await trio.to_thread.run_sync(topics.delete_topic, servers.bootstrap, name)
        await until(lambda: writer.trouble is not None and writer.trouble.reason == "no-topic")
        await trio.to_thread.run_sync(topics.create_topic, servers.bootstrap, name, 3)
        await until(lambda: writer.trouble is None and writer.partitions == 3)
        for partition in range(3):
            assert await outcomes(writer.send(partition, messages("b", "c"))) == [0, 1]


async def test_a_topic_that_is_not_there_ends_the_start_with_a_message(servers: Servers) -> None:
    writer = TopicWriter(config_of(servers.bootstrap), "absent", "pipeline-tests")
    with pytest.raises(PipelineError, match=r"can't write to the topic absent"):
        await writer.run()


@pytest.mark.slow
async def test_a_leader_that_moves_loses_nothing_and_keeps_the_order(
    brokers: Cluster, broker_topic: TopicFactory
) -> None:
    name = broker_topic(1, min_insync_replicas="2")
    deliveries: list[Delivery] = []

    async def load(writer: TopicWriter) -> None:
        while True:
            deliveries.append(writer.send(0, messages(str(len(deliveries)))))
            await trio.sleep(0.002)

    async with writing(config_of(brokers.bootstrap), name) as writer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load, writer)
            await until(lambda: len(deliveries) > 200)
            leader = await trio.to_thread.run_sync(brokers.leader, name, 0)
            await trio.to_thread.run_sync(leader.stop)
            enough = len(deliveries) + 500
            await until(lambda: len(deliveries) > enough and writer.accepts(0))
            nursery.cancel_scope.cancel()
        found = [(await outcomes(each))[0] for each in deliveries]
    await trio.to_thread.run_sync(brokers.heal)
    there = [int(value) for value in await read(brokers.bootstrap, name)]
    assert there == list(range(len(deliveries)))
    assert found == there


async def test_what_may_not_be_written_is_told_so_and_is_written_once_it_may(
    secured_kafka: SecuredKafka, acls: Acls
) -> None:
    await trio.to_thread.run_sync(secured_kafka.create_topic, "rights.in")
    options = secured_kafka.options("sasl_plaintext", "PLAIN")
    bootstrap = ",".join(options["bootstrap_servers"])
    rest = {key: value for key, value in options.items() if key != "bootstrap_servers"}
    await trio.to_thread.run_sync(partial(acls.grant, "app", "DESCRIBE", topic="rights.in"))
    async with writing(config_of(bootstrap, **rest), "rights.in") as writer:
        (refused,) = await outcomes(writer.send(0, messages("a")))
        assert isinstance(refused, NotDelivered)
        assert (refused.reason, refused.perhaps_written) == ("not-allowed", False)
        await trio.to_thread.run_sync(partial(acls.grant, "app", "WRITE", topic="rights.in"))
        assert await outcomes(writer.send(0, messages("b"))) == [0]


def test_the_producer_is_idempotent_and_waits_for_all_replicas(servers: Servers) -> None:
    producer = make_topic_producer(config_of(servers.bootstrap), "pipeline-tests")
    try:
        config = vars(producer)["config"]
        assert (config["enable_idempotence"], config["acks"]) == (True, -1)
    finally:
        producer.close(timeout=1)
