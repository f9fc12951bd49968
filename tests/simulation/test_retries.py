"""Records that can't be applied, and wait in a lane of their key: scenes in virtual time."""

from __future__ import annotations

import math

import pytest
import trio

from pipeline.consumer.partition import PartitionTask
from pipeline.contracts.lane import LaneReason
from pipeline.contracts.wish import HoldState, Ruling
from tests.simulation.instance import Instance
from tests.simulation.kafka import TOPIC_ID
from tests.simulation.laws import lanes_of
from tests.simulation.stage import SOURCE, Stage, open_stage, scene, until
from tests.simulation.test_lanes import change, hold, produce

SECONDS = 20.0
"""For how long a refused record is tried again, in these scenes."""


def refuse(stage: Stage, offset: int, until_when: float = math.inf) -> None:
    stage.world.refusals.until[SOURCE, offset] = until_when


def letters(stage: Stage) -> list[int]:
    return sorted(offset for _, offset in stage.world.dead_letters)


def in_order(stage: Stage) -> list[int]:
    """The offsets as they were applied."""
    return [offset for _, _, offset in stage.server.applied]


def ruling(offset: int, *, drop: bool, number: int = 1) -> Ruling:
    return Ruling(
        id=f"r{number}", by="ada@ops", since=0, topic=SOURCE.topic, topic_id=str(TOPIC_ID),
        partition=SOURCE.partition, offset=offset, drop=drop,
    )  # fmt: skip


async def begin(stage: Stage, *, hold_key: bool = False) -> tuple[Instance, PartitionTask]:
    stage.world.refusals.seconds = None if hold_key else SECONDS
    stage.world.refusals.hold_key = hold_key
    instance = stage.start()
    return instance, await stage.task_of(instance)


async def held_up(stage: Stage, *, hold_key: bool) -> tuple[Instance, PartitionTask]:
    """The first of two records of a key is refused for good, and has a lane."""
    instance, task = await begin(stage, hold_key=hold_key)
    refuse(stage, 0)
    produce(stage, ["hot", "hot"])
    await until(lambda: bool(lanes_of(stage.server, SOURCE)))
    return instance, task


async def settled(stage: Stage, task: PartitionTask) -> None:
    """All is decided, and no lane is left."""
    await until(lambda: not lanes_of(stage.server, SOURCE))
    await until(lambda: stage.committed == stage.broker.end(SOURCE))
    assert task.lanes is not None
    assert not task.lanes.tasks


@scene
async def test_a_refused_record_waits_with_its_key_and_no_other() -> None:
    async with open_stage() as stage:
        _, task = await begin(stage)
        refuse(stage, 1, trio.current_time() + 10)
        produce(stage, ["cold", "hot", "hot", "cold", "hot", "other"])
        await until(lambda: stage.applied == [0, 3, 5])
        await until(lambda: stage.committed == 6)
        (lane,) = lanes_of(stage.server, SOURCE)
        assert (lane.reason, lane.from_offset) == (LaneReason.RETRY, 1)
        assert lane.failure is not None
        assert lane.failure.offset == 1
        assert "23503" in lane.failure.why
        await settled(stage, task)
        assert in_order(stage)[3:] == [1, 2, 4]
        assert not letters(stage)


@scene
async def test_after_its_time_it_is_a_dead_letter_and_its_key_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_stage() as stage:
        _, task = await begin(stage)
        refuse(stage, 0)
        produce(stage, ["hot", "hot", "cold"])
        began = trio.current_time()
        await until(lambda: letters(stage) == [0])
        assert SECONDS <= trio.current_time() - began < SECONDS + 1
        await settled(stage, task)
        assert in_order(stage) == [2, 1]
        assert "it was tried again for 20 s" in caplog.text


@scene
async def test_its_time_goes_on_over_a_restart() -> None:
    async with open_stage() as stage:
        began = trio.current_time()
        instance, _ = await held_up(stage, hold_key=False)
        await trio.sleep(SECONDS * 0.7)
        instance.crash()
        stage.expel(instance)
        other = stage.start()
        await until(lambda: letters(stage) == [0])
        assert SECONDS <= trio.current_time() - began < SECONDS + 2
        await settled(stage, other.supervisor.tasks[SOURCE])


@scene
async def test_a_second_record_of_the_key_has_its_own_time() -> None:
    async with open_stage() as stage:
        _, task = await begin(stage)
        refuse(stage, 0)
        refuse(stage, 1)
        produce(stage, ["hot", "hot", "hot"])
        began = trio.current_time()
        await until(lambda: letters(stage) == [0, 1])
        assert 2 * SECONDS <= trio.current_time() - began < 2 * SECONDS + 2
        await settled(stage, task)
        assert in_order(stage) == [2]


@scene
async def test_a_key_is_held_until_an_operator_gives_its_record_up() -> None:
    async with open_stage() as stage:
        instance, task = await begin(stage, hold_key=True)
        refuse(stage, 1)
        refuse(stage, 3)
        produce(stage, ["cold", "hot", "hot", "hot", "cold"])
        await trio.sleep(3600)
        assert stage.applied == [0, 4]
        (lane,) = lanes_of(stage.server, SOURCE)
        assert lane.reason is LaneReason.REJECT
        instance.learn(ruling(1, drop=True))
        stage.world.refusals.ruled.add((SOURCE, 1))
        await until(lambda: letters(stage) == [1])
        await trio.sleep(3600)
        assert stage.applied == [0, 2, 4]  # the ruling was on one record: the next waits again
        assert lanes_of(stage.server, SOURCE)[0].failure.offset == 3  # type: ignore[union-attr]
        instance.learn(ruling(3, drop=True, number=2))
        stage.world.refusals.ruled.add((SOURCE, 3))
        await settled(stage, task)
        assert letters(stage) == [1, 3]


@scene
async def test_a_ruling_holds_for_who_owns_the_partition_later() -> None:
    async with open_stage() as stage:
        instance, _ = await held_up(stage, hold_key=True)
        instance.crash()
        stage.expel(instance)
        stage.world.refusals.ruled.add((SOURCE, 0))
        other = stage.start()
        other.learn(ruling(0, drop=True))
        task = await stage.task_of(other)
        await settled(stage, task)
        assert (in_order(stage), letters(stage)) == ([1], [0])


@scene
async def test_what_was_mended_is_tried_again_at_once_when_an_operator_says_so() -> None:
    async with open_stage() as stage:
        instance, task = await held_up(stage, hold_key=True)
        await trio.sleep(3600)
        stage.world.refusals.until.clear()
        await trio.sleep(0.5)
        instance.learn(ruling(0, drop=False))
        said = trio.current_time()
        await settled(stage, task)
        assert trio.current_time() - said < 10  # it would have been up to 60
        assert in_order(stage) == [0, 1]


@scene
async def test_what_was_mended_goes_on_by_itself() -> None:
    async with open_stage() as stage:
        _, task = await begin(stage, hold_key=True)
        refuse(stage, 0, trio.current_time() + 1000)
        produce(stage, ["hot", "hot"])
        await trio.sleep(1000)
        await settled(stage, task)
        assert in_order(stage) == [0, 1]


@scene
async def test_a_drop_of_all_ends_the_wait_too() -> None:
    async with open_stage() as stage:
        instance, task = await held_up(stage, hold_key=True)
        await trio.sleep(10)
        instance.learn(hold())
        await trio.sleep(1)
        change(instance, HoldState.DROPPING)
        await settled(stage, task)
        assert not in_order(stage)


@scene
async def test_a_lane_that_another_one_waits_for_is_opened_whatever_the_bound() -> None:
    """A hot key's lane waits for a record in flight, which fails, and needs a lane itself."""
    async with open_stage(max_lanes=1, max_buffered=4, max_buffered_per_key=1) as stage:
        stage.server.work = 5.0
        _, task = await begin(stage)
        refuse(stage, 0, trio.current_time() + 30)
        produce(stage, ["hot"] * 8)
        await until(lambda: len(lanes_of(stage.server, SOURCE)) == 2)
        stage.server.work = 0.01
        await settled(stage, task)
        assert in_order(stage) == list(range(8))
