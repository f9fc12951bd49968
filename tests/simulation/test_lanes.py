"""Lanes, scene by scene in virtual time: what gets one, who goes on, what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs
import orjson
import pytest
import trio

from pipeline.consumer.lag import LagWatch
from pipeline.consumer.partition import PartitionTask
from pipeline.contracts.rule import Rule
from pipeline.contracts.store import Claim
from pipeline.contracts.wish import Hold, HoldState
from pipeline.observe.health import ProgressWatch
from pipeline.postgres.ledger.lease import Lease, key_of
from pipeline.records.record import Record
from tests.simulation.instance import Instance
from tests.simulation.kafka import TOPIC_ID, Message
from tests.simulation.laws import lanes_of
from tests.simulation.postgres import SimulatedDatabase, SimulatedServer
from tests.simulation.stage import SOURCE, Stage, open_stage, scene, until
from tests.simulation.world import Gate

HOT = Rule("key", "hot")
LONG = 20.0
"""Virtual seconds in which anything that could happen would have happened."""


def produce(stage: Stage, keys: Sequence[str]) -> None:
    first = stage.broker.end(SOURCE)
    stage.broker.produce(
        SOURCE,
        [
            Message(first + n, orjson.dumps({"id": key, "tenant": "t", "n": 1}))
            for n, key in enumerate(keys)
        ],
    )


def keys_applied(server: SimulatedServer) -> list[str]:
    return [str(key) for _, key, _ in server.applied]


def hold(state: HoldState = HoldState.HOLDING, changed: int = 0) -> Hold:
    return Hold(id="h1", by="ada@host", since=0, rule=HOT, state=state, changed=changed)


def change(instance: Instance, state: HoldState) -> None:
    instance.learn(hold(state, int(trio.current_time() * 1000)))


async def holding(stage: Stage) -> tuple[Instance, PartitionTask]:
    """An instance that knows of the hold, and its task of the partition."""
    instance, task = await stage.started()
    instance.learn(hold())
    return instance, task


async def lane_opened(task: PartitionTask) -> None:
    await until(lambda: task.lanes is not None and bool(task.lanes.tasks))


async def all_applied(stage: Stage, count: int) -> None:
    await until(lambda: stage.applied == list(range(count)) and stage.committed == count)


@scene
async def test_a_key_that_is_held_waits_and_no_other_does() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot", "a", "hot", "b", "hot"])
        await lane_opened(task)
        await trio.sleep(LONG)
        assert sorted(keys_applied(stage.server)) == ["a", "b"]
        assert stage.committed == 5, "to the watermark what a lane answers for is done"
        change(instance, HoldState.RELEASED)
        await all_applied(stage, 5)
        await until(lambda: not lanes_of(stage.server, SOURCE))


@scene
async def test_what_becomes_of_a_held_keys_lane_is_told_with_the_hold_and_the_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot", "a", "hot"])
        await lane_opened(task)
        change(instance, HoldState.RELEASED)
        await all_applied(stage, 3)
        await until(lambda: not lanes_of(stage.server, SOURCE))
    facts = [vars(record).get("facts", {}) for record in caplog.records]
    told = [(each["event"], each["wish"], each["key"]) for each in facts if "lane" in each]
    assert told == [("lane-opened", "h1", "hot"), ("lane-closed", "h1", "hot")]


@scene
async def test_what_comes_while_a_lane_is_worked_through_comes_after_it() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot"] * 10)
        await lane_opened(task)
        stage.server.work = 0.5
        instance.wishes.remove("h1")
        for _ in range(10):
            produce(stage, ["hot", "cold"])
            await trio.sleep(0.5)
        await all_applied(stage, 30)
        hot = [offset for _, key, offset in stage.server.applied if key == "hot"]
        assert hot == sorted(hot)


@scene
async def test_what_is_dropped_is_never_applied_and_later_records_are() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot", "cold", "hot"])
        await lane_opened(task)
        await trio.sleep(1.0)
        change(instance, HoldState.DROPPING)
        await until(lambda: not lanes_of(stage.server, SOURCE))
        produce(stage, ["hot"])
        await until(lambda: stage.committed == 4)
        assert stage.applied == [1, 3]
        assert stage.server.marked == {(SOURCE, 0), (SOURCE, 2)}


@scene
async def test_only_the_first_is_given_up_once_each_time_it_is_wished() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot"] * 4)
        await lane_opened(task)
        for count in (1, 2):
            await trio.sleep(1.0)
            change(instance, HoldState.DROP_FIRST)
            await trio.sleep(LONG)
            assert stage.world.dead_letters == {(SOURCE, offset) for offset in range(count)}
        produce(stage, ["hot"])
        assert stage.applied == []
        change(instance, HoldState.RELEASED)
        await until(lambda: stage.committed == 5 and stage.applied == [2, 3, 4])


@scene
async def test_a_drop_of_the_first_is_not_owed_when_none_waited() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot"])
        await lane_opened(task)
        for _ in range(2):  # the second time there is nothing left
            await trio.sleep(1.0)
            change(instance, HoldState.DROP_FIRST)
            await trio.sleep(LONG)
        produce(stage, ["hot"])
        await trio.sleep(LONG)
        assert stage.world.dead_letters == {(SOURCE, 0)}
        assert stage.applied == []


@scene
async def test_a_drop_of_long_ago_is_no_matter_to_a_later_lane() -> None:
    async with open_stage() as stage:
        instance, task = await stage.started()
        instance.learn(hold(HoldState.DROPPING, changed=1))
        again = attrs.evolve(hold(), id="h2")
        instance.learn(again)
        produce(stage, ["hot", "hot"])
        await lane_opened(task)
        instance.wishes.remove("h2")
        await all_applied(stage, 2)


class LockedRow(SimulatedDatabase):
    """Somebody else has the hot key's row for as long as the scene says."""

    def __init__(self, row: Gate, server: SimulatedServer, awake: Gate) -> None:
        super().__init__(server, awake)
        self._row = row

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        if any(record.ordering == "hot" for record in records):
            await self._row.passed()
        return await super().write(lease, records)


@scene
async def test_a_hot_key_behind_a_lock_gets_a_lane_and_holds_up_nobody() -> None:
    row = Gate()
    async with open_stage(
        max_buffered=20, max_batch=4, make_database=partial(LockedRow, row)
    ) as stage:
        _, task = await stage.started()
        row.close()
        produce(stage, ["hot"] * 60)
        produce(stage, [f"cold {n}" for n in range(40)])
        await lane_opened(task)
        await until(lambda: len(stage.applied) == 40)
        assert "hot" not in keys_applied(stage.server)
        assert stage.committed in (None, 0), "what is in flight holds the watermark"
        row.open()
        await all_applied(stage, 100)
        await until(lambda: not lanes_of(stage.server, SOURCE))


@scene
async def test_a_hot_key_gets_a_lane_before_the_partition_is_full() -> None:
    """When it is full, the others wait already."""
    row = Gate()
    async with open_stage(
        max_buffered=20, max_batch=4, make_database=partial(LockedRow, row)
    ) as stage:
        task = await stage.task_of(stage.start())
        row.close()
        produce(stage, ["hot"] * 14)
        await lane_opened(task)
        assert not task.writers.paused
        row.open()
        await all_applied(stage, 14)


@scene
async def test_a_new_owner_goes_on_with_the_lanes_that_it_finds() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot", "cold", "hot"])
        await lane_opened(task)
        await until(lambda: stage.committed == 3)
        instance.crash()
        stage.expel(instance)
        other = stage.start()
        other.learn(hold())
        produce(stage, ["hot"])
        await until(lambda: stage.committed == 4)
        await trio.sleep(LONG)
        assert stage.applied == [1]
        other.wishes.remove("h1")
        await all_applied(stage, 4)


@scene
async def test_without_room_for_another_lane_the_partition_waits() -> None:
    async with open_stage(max_lanes=1) as stage:
        instance, task = await holding(stage)
        second = attrs.evolve(hold(), id="h2", rule=Rule("key", "other"))
        instance.learn(second)
        produce(stage, ["hot", "other", "cold"])
        await lane_opened(task)
        await trio.sleep(LONG)
        produce(stage, ["cold"])
        await trio.sleep(LONG)
        assert 3 not in stage.applied
        instance.wishes.remove("h2")
        instance.wishes.remove("h1")
        await all_applied(stage, 4)


@scene
async def test_what_waits_in_lanes_is_shown() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot", "cold", "hot"])
        await lane_opened(task)
        await until(lambda: stage.committed == 3)
        health = ProgressWatch(trio.current_time, lambda: "")
        tasks = instance.supervisor.tasks.values
        watch = LagWatch(instance.consumer, tasks, lambda _: True, stage.metrics, health)
        (found,) = watch.snapshots()
        (lane,) = found.lanes
        assert (lane.rule, lane.state, lane.waiting) == (HOT, "held", 2)
        watch.set_gauges()
        text = stage.metrics.render().decode()
        labels = 'partition="0",reason="hold",topic="events"'
        assert f"pipeline_lane_records{{{labels}}} 2.0" in text


@scene
async def test_a_lane_that_comes_near_the_retention_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_stage() as stage:
        _, task = await holding(stage)
        produce(stage, ["hot"])
        await lane_opened(task)
        assert task.lanes is not None
        task.lanes._lanes.retention = lambda _: 100.0
        (lane,) = task.lanes.snapshots()
        assert lane.retention is not None
        assert lane.retention > 90
        assert "Kafka keeps records for 100 s" not in caplog.text
        await trio.sleep(85)
        for _ in range(2):
            (lane,) = task.lanes.snapshots()
        assert caplog.text.count("Kafka keeps records for 100 s") == 1


@scene
async def test_what_retention_takes_from_a_lane_is_counted() -> None:
    async with open_stage() as stage:
        instance, task = await holding(stage)
        produce(stage, ["hot", "hot", "cold"])
        await lane_opened(task)
        await until(lambda: stage.committed == 3)
        stage.broker.delete_records(SOURCE, 1)
        instance.wishes.remove("h1")
        await until(lambda: not lanes_of(stage.server, SOURCE))
        assert stage.applied == [1, 2]
        lost = stage.metrics.records_lost.labels(SOURCE.topic, str(SOURCE.partition))
        assert lost._value.get() == 1


@scene
async def test_what_a_former_owner_applied_behind_a_record_is_not_applied_by_its_lane() -> None:
    """It was about to make a dead letter of record 0, and had applied record 1 of the same key."""
    async with open_stage() as stage:
        key = key_of(Claim("group", SOURCE, TOPIC_ID))
        stage.server.ledger.note(key, [1])
        stage.server.applied.append((SOURCE, "hot", 1))
        instance = stage.start()
        instance.learn(hold())
        produce(stage, ["hot", "hot", "hot", "cold"])
        task = await stage.task_of(instance)
        await lane_opened(task)
        instance.wishes.remove("h1")
        await all_applied(stage, 4)
