"""Records that are rejected: kept last, side by side, and without a slot that others need."""

# ruff: noqa: ARG001, ARG002 (the clock is asked for to be in force; fakes ignore much)

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from pipeline.contracts.store import Fenced
from pipeline.errors import PipelineError
from pipeline.postgres.connections.places import Places
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from tests.support.records import record
from tests.support.stores import World, records, refusing


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


class RefusingTopic:
    """Takes no letter of these offsets until ``mended`` is set."""

    def __init__(self, *refused: int) -> None:
        self.refused = refused
        self.mended = trio.Event()
        self.kept: list[int] = []

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        if record.offset in self.refused:
            await self.mended.wait()
        self.kept.append(record.offset)


async def test_a_letter_that_waits_holds_up_no_row_of_its_batch(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    topic = RefusingTopic(0, 3)
    world.dead_letters.put = topic.put  # type: ignore[method-assign]
    partition = await world.open()
    world.database.always = refusing(3)
    batch = [record(0, "k", error="not JSON"), *records(10)[1:]]
    nursery.start_soon(partition.apply, 0, batch)
    await trio.sleep(60)
    assert world.database.applied == [1, 2, 4, 5, 6, 7, 8, 9]
    assert topic.kept == []
    assert world.database.marked == []
    topic.mended.set()
    await trio.sleep(1)
    assert sorted(world.database.marked) == [0, 3]


async def test_a_letter_that_waits_holds_up_no_other_letter(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    topic = RefusingTopic(1)
    world.dead_letters.put = topic.put  # type: ignore[method-assign]
    partition = await world.open()
    batch = [record(offset, "k", error="not JSON") for offset in range(5)]
    nursery.start_soon(partition.apply, 0, batch)
    await trio.sleep(60)
    assert topic.kept == [0, 2, 3, 4]
    assert world.database.marked == [0, 2, 3, 4]
    assert partition.waits_for == "the dead letter topic"
    topic.mended.set()
    await trio.sleep(1)
    assert world.database.marked == [0, 2, 3, 4, 1]
    assert partition.waits_for == "a transaction in the database"


async def test_letters_that_wait_take_no_slot_from_other_partitions(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    topic = RefusingTopic(0, 1, 2)
    world.dead_letters.put = topic.put  # type: ignore[method-assign]
    partition, limiter = await world.open(), world.shard.limiter

    async def write(offset: int) -> None:
        async with partition.slot():
            await partition.apply(0, [record(offset, "k", error="not JSON")])

    async def hold() -> None:
        async with partition.slot():
            await trio.sleep_forever()

    for offset in range(3):  # there are two slots
        nursery.start_soon(write, offset)
    await trio.sleep(60)
    assert limiter.slots_taken == 3
    async with trio.open_nursery() as others:
        for _ in range(9):
            others.start_soon(hold)
        await trio.sleep(1)
        assert limiter.slots_taken == 3 + 2, "no more than there are"
        topic.mended.set()
        await trio.sleep(1)
        assert limiter.slots_taken == 2
        others.cancel_scope.cancel()


async def test_who_stands_aside_is_counted_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    places = Places(4)
    places.allow(1, 4)

    async def stand_aside() -> None:
        async with places.place():
            with places.aside():
                await trio.sleep_forever()

    async def hold() -> None:
        async with places.place():
            await trio.sleep_forever()

    nursery.start_soon(stand_aside)
    await trio.sleep(100)
    for _ in range(9):
        nursery.start_soon(hold)
    await trio.sleep(1)
    places.look(10)
    await trio.sleep(1)
    assert (places.taken, places.moving) == (2, 1)


@pytest.mark.parametrize("error", [PipelineError("no topic"), Fenced("lost")])
async def test_the_first_failure_ends_the_batch_as_it_is(
    autojump_clock: MockClock, world: World, error: Exception
) -> None:
    partition = await world.open()

    async def put(record: Record, rejection: DeadLetterReason) -> None:
        if record.offset == 1:
            raise error
        await trio.sleep_forever()

    world.dead_letters.put = put  # type: ignore[method-assign]
    with pytest.raises(type(error), match=str(error)):
        await partition.apply(0, [record(n, "k", error="not JSON") for n in range(3)])
