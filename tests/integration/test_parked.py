"""A regression of the client below us: a resumed partition whose records were parked for good."""

from __future__ import annotations

import pytest
import trio
from kafka import KafkaProducer

from pipeline.config.model import KafkaConfig
from pipeline.contracts.kafka import AssignmentEvent, Change
from pipeline.kafka.client import KafkaClient
from pipeline.local import Servers
from pipeline.records.record import TopicPartition
from tests.support.servers import TopicFactory

pytestmark = pytest.mark.real


def produce(servers: Servers, topic: str, partition: int, count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=servers.bootstrap)
    for number in range(count):
        producer.send(topic, value=b"%d" % number, partition=partition)
        producer.flush()  # a record a batch: a poll gives so many batches
    producer.close()


async def test_a_resumed_partition_comes_back_although_another_was_read_to_its_end(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(partitions=2)
    long, short = TopicPartition(name, 0), TopicPartition(name, 1)
    await trio.to_thread.run_sync(produce, servers, name, 0, 50)
    config = KafkaConfig(
        bootstrap_servers=(servers.bootstrap,), topics=(name,), group_id=name,
        options={"max_poll_records": 10},
    )  # fmt: skip
    client = await KafkaClient.open(config, "parked")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_events, client)
            read = await poll_until(client, long, 10)
            client.pause(long)
            await trio.to_thread.run_sync(produce, servers, name, 1, 5)
            await poll_until(client, short, 5)
            client.resume(long)
            read += await poll_until(client, long, 50 - len(read))
            assert read == list(range(50))
            await client.close()
            nursery.cancel_scope.cancel()


async def answer_events(client: KafkaClient) -> None:
    async for event in client.events:
        assert isinstance(event, AssignmentEvent)
        if event.change is Change.ASSIGNED:
            for source in event.partitions:
                client.seek_and_resume(source, 0)
        event.done()


async def poll_until(client: KafkaClient, source: TopicPartition, count: int) -> list[int]:
    """Offsets of ``source``, at least ``count`` of them."""
    offsets: list[int] = []
    while len(offsets) < count:
        found = await client.poll()
        batches = found.get(source, ())
        offsets += [record.offset for batch in batches for record in batch.records()]
    return offsets
