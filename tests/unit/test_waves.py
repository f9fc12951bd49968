"""Which batches leave together: over a producer that a test answers for, in virtual time."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from kafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError
from trio.testing import MockClock, wait_all_tasks_blocked

from pipeline.kafka.batch_builder import Message
from pipeline.kafka.batch_producer import BatchProducer
from pipeline.kafka.delivery import NotDelivered
from pipeline.kafka.hand_over import Answers
from pipeline.kafka.waves import HOLD_SECONDS

LEADERS = {0: 1, 1: 1, 2: 1, 3: 2}
"""Partition → broker."""


class Accumulator:
    def __init__(self) -> None:
        self._batches: dict[Any, list[Any]] = defaultdict(list)
        self._incomplete: set[Any] = set()
        self._closed = False

    def _tp_lock(self, _: object) -> threading.Lock:
        return threading.Lock()


class Producer:
    """Takes what a `BatchProducer` hands over; a test answers for the brokers."""

    def __init__(self) -> None:
        self.accumulator = Accumulator()
        self.wakes = 0
        self.waves: list[dict[int, Any]] = []
        self._sender = SimpleNamespace(_accumulator=self.accumulator, wakeup=self._wake)
        self._metadata = SimpleNamespace(
            leader_for_partition=lambda key: LEADERS.get(key.partition)
        )
        self._transaction_manager = SimpleNamespace(has_fatal_error=lambda: False)

    def _wake(self) -> None:
        self.wakes += 1
        taken, self.accumulator._batches = self.accumulator._batches, defaultdict(list)
        self.waves.append({key.partition: batch for key, (batch,) in taken.items()})

    def answer(self, wave: int, partition: int, offset: int = 0) -> None:
        self.waves[wave].pop(partition).complete(offset, -1)

    def fail(self, wave: int, partition: int, error: Exception) -> None:
        batch = self.waves[wave].pop(partition)
        batch.drained = 1.0
        batch.complete_exceptionally(error, lambda _: error)


@asynccontextmanager
async def sending() -> AsyncIterator[tuple[BatchProducer, Producer]]:
    made = Producer()
    producer: Any = made
    batches = BatchProducer("t", lambda: None)
    batches.use(producer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        yield batches, made
        nursery.cancel_scope.cancel()


def message(text: bytes = b"{}") -> list[Message]:
    return [(b"k", text, [])]


def partitions(producer: Producer) -> list[list[int]]:
    return [sorted(wave) for wave in producer.waves]


async def test_what_comes_in_one_turn_leaves_together_and_wakes_the_thread_once(
    autojump_clock: MockClock,
) -> None:
    async with sending() as (batches, producer):
        for _ in range(10):
            for partition in (0, 1, 2):
                batches.send(partition, message())
        await wait_all_tasks_blocked()
        assert partitions(producer) == [[0, 1, 2]]
        assert [batch.record_count for batch in producer.waves[0].values()] == [10, 10, 10]
        assert producer.wakes == 1


async def test_what_comes_meanwhile_leaves_with_the_answer(autojump_clock: MockClock) -> None:
    async with sending() as (batches, producer):
        first = batches.send(0, message())
        await wait_all_tasks_blocked()
        second = [batches.send(partition, message()) for partition in (1, 2, 0, 0)]
        await wait_all_tasks_blocked()
        assert partitions(producer) == [[0]]
        producer.answer(0, 0, 7)
        await wait_all_tasks_blocked()
        assert first.outcomes == [7]
        assert partitions(producer) == [[], [0, 1, 2]]
        for partition in (0, 1, 2):
            producer.answer(1, partition, 10 * partition)
        await wait_all_tasks_blocked()
        assert [each.outcomes for each in second] == [[10], [20], [0], [1]]


async def test_brokers_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    async with sending() as (batches, producer):
        batches.send(0, message())
        await wait_all_tasks_blocked()
        batches.send(3, message())
        await wait_all_tasks_blocked()
        assert partitions(producer) == [[0], [3]]


async def test_a_partition_without_a_leader_waits_for_nobody(autojump_clock: MockClock) -> None:
    async with sending() as (batches, producer):
        for partition in (8, 9):
            batches.send(partition, message())
            await wait_all_tasks_blocked()
        assert partitions(producer) == [[8], [9]]


async def test_a_partition_in_trouble_holds_up_others_no_longer_than_a_moment(
    autojump_clock: MockClock,
) -> None:
    async with sending() as (batches, producer):
        batches.send(0, message())
        await wait_all_tasks_blocked()
        batches.send(1, message())
        await trio.sleep(HOLD_SECONDS * 0.9)
        assert partitions(producer) == [[0]]
        await trio.sleep(HOLD_SECONDS * 0.2)
        assert partitions(producer) == [[0], [1]]
        batches.send(0, message())  # its own batch is under way still
        await trio.sleep(1)
        assert partitions(producer) == [[0], [1]]


async def test_the_first_answer_of_a_wave_lets_the_next_one_go(autojump_clock: MockClock) -> None:
    async with sending() as (batches, producer):
        for partition in (0, 1):
            batches.send(partition, message())
        await wait_all_tasks_blocked()
        batches.send(2, message())
        producer.answer(0, 1)
        await wait_all_tasks_blocked()
        assert partitions(producer) == [[0], [2]]


async def test_what_a_closed_producer_does_not_take_goes_by_the_next_one(
    autojump_clock: MockClock,
) -> None:
    async with sending() as (batches, closed):
        closed.accumulator._closed = True
        delivery = batches.send(0, message())
        await wait_all_tasks_blocked()
        assert not any(closed.waves)
        another: Any = Producer()
        batches.use(another)
        await trio.sleep(HOLD_SECONDS * 1.1)
        another.answer(0, 0, 3)
        await wait_all_tasks_blocked()
        assert delivery.outcomes == [3]


async def test_each_partition_of_a_wave_has_an_answer_of_its_own(autojump_clock: MockClock) -> None:
    async with sending() as (batches, producer):
        good, bad = batches.send(0, message()), batches.send(1, message())
        await wait_all_tasks_blocked()
        producer.answer(0, 0, 5)
        producer.fail(0, 1, UnknownTopicOrPartitionError())
        await wait_all_tasks_blocked()
        assert good.outcomes == [5]
        (why,) = bad.outcomes
        assert isinstance(why, NotDelivered)
        assert why.perhaps_written
        assert batches.pending_records == 0


async def test_what_waits_too_long_behind_a_wave_is_given_up(autojump_clock: MockClock) -> None:
    async with sending() as (batches, producer):
        batches.send(0, message())
        await wait_all_tasks_blocked()
        second = batches.send(0, message())
        await trio.sleep(26)
        batches.expire()
        (why,) = second.outcomes
        assert isinstance(why, NotDelivered)
        assert not why.perhaps_written
        producer.fail(0, 0, KafkaTimeoutError("late"))
        await batches.wait_idle()


@pytest.mark.parametrize("threads", [1, 4])
async def test_every_answer_comes_into_trio_once_and_in_order(threads: int) -> None:
    count = 2_000
    found: list[tuple[int, int]] = []
    complete = trio.Event()

    def take(answers: Any) -> None:
        found.extend(answers)
        if len(found) == threads * count:
            complete.set()

    answers = Answers[tuple[int, int]](take)

    def tell(thread: int) -> None:
        for number in range(count):
            answers.tell((thread, number))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for thread in range(threads):
                nursery.start_soon(trio.to_thread.run_sync, tell, thread)
        await complete.wait()
    for thread in range(threads):
        assert [number for each, number in found if each == thread] == list(range(count))
