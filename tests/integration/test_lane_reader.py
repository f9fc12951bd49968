"""What lanes read of a real Kafka: past transactions' ends, retention and topics made anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
import trio
from kafka import KafkaProducer

from pipeline.config.model import KafkaConfig
from pipeline.contracts.kafka import Fetched
from pipeline.kafka.lane_reader import LaneReader
from pipeline.local import Servers
from pipeline.records.record import TopicPartition
from tests.support.servers import TopicFactory
from tests.support.topics import delete_records, recreate_topic, topic_id
from tests.support.transactions import send_transaction, transactional_producer

pytestmark = pytest.mark.real

PATIENCE = 30.0
MUCH = 1_000_000


@asynccontextmanager
async def opened(servers: Servers, topic: str) -> AsyncIterator[LaneReader]:
    kafka = KafkaConfig((servers.kafka.bootstrap,), topics=(topic,), group_id="lanes")
    reader = LaneReader(kafka, "lanes")
    with trio.fail_after(PATIENCE):
        try:
            yield reader
        finally:
            with trio.CancelScope(shield=True):
                await reader.close()


def id_of(servers: Servers, topic: str) -> UUID:
    found = topic_id(servers.kafka.bootstrap, topic)
    assert found is not None
    return found


def produce(servers: Servers, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
    producer = KafkaProducer(bootstrap_servers=servers.kafka.bootstrap)
    for value in values:
        producer.send(topic, value, partition=partition)
        producer.flush()  # a batch each
    producer.close()


def offsets(fetched: Fetched) -> list[int]:
    return [record.offset for batch in fetched.batches for record in batch.records()]


async def read_all(
    reader: LaneReader, source: TopicPartition, topic_id: UUID, offset: int, end: int
) -> list[int]:
    found: list[int] = []
    while offset < end:
        fetched = await reader.read(source, topic_id, offset, MUCH)
        found += offsets(fetched)
        offset = fetched.next_offset
    return found


async def test_the_next_offset_passes_what_is_no_record_for_a_consumer(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1)
    source, own = TopicPartition(name, 0), id_of(servers, name)
    with transactional_producer(servers.kafka.bootstrap) as producer:
        send_transaction(producer, name, [b"0", b"1"])
        send_transaction(producer, name, [b"3", b"4"], end="abort")
        send_transaction(producer, name, [b"6"])
        async with opened(servers, name) as reader:
            assert await read_all(reader, source, own, 0, 8) == [0, 1, 6]
            assert await read_all(reader, source, own, 1, 8) == [1, 6]
            assert await reader.read(source, own, 8, MUCH) == Fetched((), 8, 0), "the end"
            send_transaction(producer, name, [b"8"], end="leave open")
            assert await reader.read(source, own, 8, MUCH) == Fetched((), 8, 0)
            producer.commit_transaction()
            assert await read_all(reader, source, own, 8, 10) == [8]


async def test_a_read_takes_about_so_many_bytes_and_one_batch_at_least(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(2)
    own = id_of(servers, name)
    produce(servers, name, [bytes(1000)] * 6)
    produce(servers, name, [b"x"] * 3, partition=1)
    first, second = (TopicPartition(name, number) for number in range(2))
    async with opened(servers, name) as reader:
        assert offsets(await reader.read(first, own, 0, 1)) == [0]
        assert offsets(await reader.read(first, own, 1, 1500)) == [1, 2]
        assert offsets(await reader.read(first, own, 0, 1)) == [0], "another lane is further behind"
        found: dict[TopicPartition, list[int]] = {}

        async def read(source: TopicPartition, end: int) -> None:
            found[source] = await read_all(reader, source, own, 0, end)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, first, 6)
            nursery.start_soon(read, second, 3)
        assert found == {first: [0, 1, 2, 3, 4, 5], second: [0, 1, 2]}


async def test_below_the_log_s_start_it_goes_on_there(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1)
    source, own = TopicPartition(name, 0), id_of(servers, name)
    produce(servers, name, [b"x"] * 5)
    delete_records(servers.kafka.bootstrap, name, {0: 3})
    async with opened(servers, name) as reader:
        assert await reader.read(source, own, 1, MUCH) == Fetched((), 3, 3)
        fetched = await reader.read(source, own, 3, 1)
        assert (offsets(fetched), fetched.log_start) == ([3], 3)
        assert await reader.read(source, own, 9, MUCH) == Fetched((), 9, 3), "above its end"


async def test_nothing_is_read_of_another_topic_with_the_same_name(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(1)
    source, former = TopicPartition(name, 0), id_of(servers, name)
    produce(servers, name, [b"old"] * 2)
    async with opened(servers, name) as reader:
        assert await read_all(reader, source, former, 0, 2) == [0, 1]
        recreate_topic(servers.kafka.bootstrap, name)
        produce(servers, name, [b"new"] * 4)
        for _ in range(3):
            assert offsets(await reader.read(source, former, 1, MUCH)) == []
        assert await read_all(reader, source, id_of(servers, name), 1, 4) == [1, 2, 3]
