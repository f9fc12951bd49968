"""The contract of the consumer client: kept by the simulated Kafka and by the real one."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from uuid import uuid4

import attrs
import pytest
import trio
from kafka import KafkaProducer

from pipeline.config.model import KafkaConfig
from pipeline.contracts.kafka import AssignmentEvent, Change, Consumer, Position, discard_events
from pipeline.kafka.client import KafkaClient
from pipeline.local import Servers
from pipeline.records.record import TopicPartition
from tests.simulation.kafka import Broker, Message, SimulatedConsumer
from tests.simulation.world import Gate, World
from tests.support.servers import TopicFactory

pytestmark = pytest.mark.real

PATIENCE = 30.0
PARTITIONS = 2


class Member:
    """A consumer that is polled, and what came of it."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.received: list[tuple[TopicPartition, int]] = []
        self.begun = 0  # polls

    async def polls(self) -> None:
        while True:
            self.begun += 1
            for source, batches in (await self.consumer.poll()).items():
                records = [record for batch in batches for record in batch.records()]
                self.received += [(TopicPartition(*source), record.offset) for record in records]

    def offsets(self, source: TopicPartition) -> list[int]:
        return [offset for found, offset in self.received if found == source]

    async def event(self, change: Change) -> tuple[TopicPartition, ...]:
        """The next event, which must be of this kind; it is said to be carried out."""
        with trio.fail_after(PATIENCE):
            event = await self.consumer.events.receive()
            while event == AssignmentEvent(Change.ASSIGNED, (), event.done):
                event = await self.consumer.events.receive()  # joined, and no partition is free yet
        assert isinstance(event, AssignmentEvent)
        assert event.change is change
        event.done()
        return event.partitions


@attrs.frozen
class Subject:
    """A Kafka with one topic, and members to be made in one group."""

    sources: Sequence[TopicPartition]
    join: Callable[[], AbstractAsyncContextManager[Member]]
    produce: Callable[[TopicPartition, int], None]


@asynccontextmanager
async def simulated() -> AsyncIterator[Subject]:
    world = World(0, random.Random(0))
    sources = [TopicPartition("events", number) for number in range(PARTITIONS)]
    broker = Broker(world, sources)

    @asynccontextmanager
    async def join() -> AsyncIterator[Member]:
        async with polled(SimulatedConsumer(broker, Gate(), 100)) as member:
            yield member

    def produce(source: TopicPartition, count: int) -> None:
        first = broker.end(source)
        broker.produce(source, [Message(offset, b"{}") for offset in range(first, first + count)])

    yield Subject(sources, join, produce)


@asynccontextmanager
async def real(servers: Servers, topic: str) -> AsyncIterator[Subject]:
    bootstrap = servers.kafka.bootstrap
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    config = KafkaConfig(bootstrap_servers=(bootstrap,), topics=(topic,), group_id=uuid4().hex)

    @asynccontextmanager
    async def join() -> AsyncIterator[Member]:
        async with polled(await KafkaClient.open(config, "conformance")) as member:
            yield member

    def produce(source: TopicPartition, count: int) -> None:
        for _ in range(count):
            producer.send(source.topic, b"{}", partition=source.partition)
        producer.flush()

    try:
        yield Subject(
            [TopicPartition(topic, number) for number in range(PARTITIONS)], join, produce
        )
    finally:
        producer.close()


@asynccontextmanager
async def polled(consumer: Consumer) -> AsyncIterator[Member]:
    """A member that is polled until the block ends; then it leaves, whatever its events."""
    member = Member(consumer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(member.polls)
        try:
            yield member
        finally:
            discard_events(consumer.events)
        with trio.fail_after(PATIENCE):
            await consumer.close()
        nursery.cancel_scope.cancel()


Open = Callable[[], AbstractAsyncContextManager[Subject]]


@pytest.fixture(params=["simulated", "real"])
def open_subject(request: pytest.FixtureRequest) -> Open:
    if request.param == "simulated":
        return simulated
    topic: TopicFactory = request.getfixturevalue("topic")
    servers: Servers = request.getfixturevalue("servers")
    return partial(real, servers, topic(PARTITIONS))


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 (another process's state)
            await trio.sleep(0.02)


async def test_nothing_is_polled_before_it_is_started_and_then_from_there(
    open_subject: Open,
) -> None:
    async with open_subject() as subject, subject.join() as member:
        first, second = subject.sources
        subject.produce(first, 10)
        subject.produce(second, 10)
        assert await member.event(Change.ASSIGNED) == (first, second)
        member.consumer.seek_and_resume(first, 4)
        await until(lambda: member.offsets(first) == list(range(4, 10)))
        assert member.offsets(second) == []
        member.consumer.seek_and_resume(second, 0)
        subject.produce(first, 5)
        await until(lambda: len(member.received) == 21)
        assert member.offsets(first) == list(range(4, 15))
        assert member.offsets(second) == list(range(10))


async def test_a_paused_partition_loses_nothing(open_subject: Open) -> None:
    async with open_subject() as subject, subject.join() as member:
        first, second = await member.event(Change.ASSIGNED)
        for source in (first, second):
            member.consumer.seek_and_resume(source, 0)
        subject.produce(first, 3)
        await until(lambda: len(member.received) == 3)
        member.consumer.pause(first)
        subject.produce(second, 1)
        await until(lambda: len(member.offsets(second)) == 1)  # a poll later it is in force
        subject.produce(first, 3)
        subject.produce(second, 3)
        await until(lambda: len(member.offsets(second)) == 4)
        assert member.offsets(first) == [0, 1, 2]
        member.consumer.resume(first)
        await until(lambda: member.offsets(first) == list(range(6)))


async def test_offsets_come_back_as_they_were_committed(open_subject: Open) -> None:
    async with open_subject() as subject, subject.join() as member:
        first, second = await member.event(Change.ASSIGNED)
        subject.produce(first, 7)
        assert await member.consumer.commit({first: (5, "some text")})
        assert await member.consumer.positions([first, second]) == {
            first: Position(5, "some text", 0, 7, 0),
            second: Position(None, "", 0, 0, 0),
        }
        assert await member.consumer.ends([first, second]) == {first: 7, second: 0}


async def test_the_first_record_of_a_span_is_read_and_no_fetch_is_disturbed(
    open_subject: Open,
) -> None:
    async with open_subject() as subject, subject.join() as member:
        first, second = await member.event(Change.ASSIGNED)
        subject.produce(first, 6)
        spans = {first: (3, 5), second: (0, 0)}
        found = await member.consumer.first_records(spans)
        assert {s: None if r is None else r.offset for s, r in found.items()} == {
            first: 3, second: None
        }  # fmt: skip
        member.consumer.seek_and_resume(first, 0)
        await until(lambda: member.offsets(first) == list(range(6)))
        found = await member.consumer.first_records({first: (5, 6)})
        assert [record and record.offset for record in found.values()] == [5]
        subject.produce(first, 1)
        await until(lambda: member.offsets(first) == list(range(7)))


async def test_a_glance_shows_what_positions_show(open_subject: Open) -> None:
    async with open_subject() as subject, subject.join() as member:
        first, second = await member.event(Change.ASSIGNED)
        subject.produce(first, 7)
        assert await member.consumer.commit({first: (5, "")})
        try_positions = await member.consumer.try_positions([first, second])
        assert try_positions == await member.consumer.positions([first, second])
        assert try_positions[first] == Position(5, "", 0, 7, 0)


async def test_a_partition_moves_only_when_its_owner_has_carried_it_out(
    open_subject: Open,
) -> None:
    async with open_subject() as subject, subject.join() as one:
        both = await one.event(Change.ASSIGNED)
        async with subject.join() as other:
            with trio.fail_after(PATIENCE):
                revoked = await one.consumer.events.receive()
            assert isinstance(revoked, AssignmentEvent)
            assert revoked.change is Change.REVOKED
            (moving,) = revoked.partitions
            (staying,) = set(both) - {moving}
            with pytest.raises(trio.WouldBlock):
                other.consumer.events.receive_nowait()
            one.consumer.seek_and_resume(staying, 0)
            assert await one.consumer.commit({moving: (3, "")})  # while the rebalance waits
            revoked.done()
            assert await other.event(Change.ASSIGNED) == (moving,)
            assert (await other.consumer.positions([moving]))[moving].committed == 3
            subject.produce(staying, 2)
            await until(lambda: one.offsets(staying) == [0, 1])


async def test_partitions_that_stay_go_on_while_another_is_given_up(open_subject: Open) -> None:
    """They stood still until the drain was over, and until every member had joined again."""
    async with open_subject() as subject, subject.join() as one:
        both = await one.event(Change.ASSIGNED)
        for source in both:
            one.consumer.seek_and_resume(source, 0)
            subject.produce(source, 1)
        await until(lambda: len(one.received) == 2)
        async with subject.join() as other:
            with trio.fail_after(PATIENCE):
                revoked = await one.consumer.events.receive()
            assert isinstance(revoked, AssignmentEvent)
            (moving,) = revoked.partitions
            (staying,) = set(both) - {moving}
            for source in both:
                subject.produce(source, 3)
            try:
                await until(lambda: one.offsets(staying) == [0, 1, 2, 3])
                one.received.clear()
                one.consumer.seek_and_resume(staying, 2)  # commands are carried out, too
                await until(lambda: one.offsets(staying) == [2, 3])
            finally:
                revoked.done()
            assert await other.event(Change.ASSIGNED) == (moving,)
            subject.produce(staying, 1)
            await until(lambda: one.offsets(staying) == [2, 3, 4])
            assert one.offsets(moving) == []


async def test_closing_revokes_and_hands_over(open_subject: Open) -> None:
    async with open_subject() as subject:
        async with subject.join() as one:
            both = await one.event(Change.ASSIGNED)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.consumer.close)
                assert await one.event(Change.REVOKED) == both
        async with subject.join() as other:
            assert await other.event(Change.ASSIGNED) == both


async def test_records_fetched_before_a_start_are_not_handed_out_after_it(
    open_subject: Open,
) -> None:
    async with open_subject() as subject, subject.join() as member:
        first, second = await member.event(Change.ASSIGNED)
        member.consumer.seek_and_resume(first, 0)
        member.consumer.seek_and_resume(second, 0)  # nothing is paused: polls wait for records
        subject.produce(first, 3)
        await until(lambda: member.offsets(first) == [0, 1, 2])
        for end in range(4, 9):
            begun = member.begun
            await until(lambda: member.begun > begun)  # noqa: B023 (a poll is under way)
            member.received.clear()
            member.consumer.seek_and_resume(first, 1)
            subject.produce(first, 1)  # for that poll
            await until(lambda: len(member.received) >= end - 1)  # noqa: B023
            assert member.offsets(first) == list(range(1, end))
