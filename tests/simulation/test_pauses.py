"""Pauses, scene by scene in virtual time: what stops, what finishes, what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from pipeline.consumer.lag import LagWatch
from pipeline.contracts.snapshot import Phase
from pipeline.contracts.wish import Pause, Scope
from pipeline.observe.health import STALL_SECONDS, ProgressWatch
from tests.simulation.instance import Instance
from tests.simulation.stage import BATCH, SOURCE, WRITERS, Stage, open_stage, scene, until

IN_FLIGHT = BATCH * WRITERS
LONG = 30.0
"""Virtual seconds in which anything that could begin would have begun."""


def pause(until_seconds: float | None = None, **scope: str | int) -> Pause:
    end = None if until_seconds is None else int(until_seconds * 1000)
    what = Scope(**(scope or {"shard": "db0"}))  # type: ignore[arg-type]  # as the scene says
    return Pause(id="p1", by="ada@host", since=0, until=end, why="vacuum", what=what)


def go_on(instance: Instance) -> None:
    instance.wishes.remove("p1")


@scene
async def test_what_is_in_flight_finishes_and_nothing_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_stage() as stage:
        stage.server.work = 1.0
        stage.produce(10)
        instance, _ = await stage.started()
        await until(lambda: stage.server.writing == WRITERS)
        instance.learn(pause())
        await trio.sleep(LONG)
        assert stage.applied == list(range(IN_FLIGHT))
        assert stage.committed == IN_FLIGHT
        go_on(instance)
        await until(lambda: stage.committed == 10)
        facts = [vars(each).get("facts", {}) for each in caplog.records]
        told = [(each["event"], each["wish"]) for each in facts if "wish" in each]
        assert told == [("paused", "p1"), ("resumed", "p1")]
        assert stage.applied == list(range(10))


@asynccontextmanager
async def all_slots_taken(instance: Instance) -> AsyncIterator[None]:
    """Another partition has every slot of the shard."""
    limiter = instance.shards[0].limiter

    async def hold(*, task_status: trio.TaskStatus[None]) -> None:
        async with limiter.slot():
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        while not limiter.saturated:
            await nursery.start(hold)
        yield
        nursery.cancel_scope.cancel()


@scene
async def test_a_writer_that_queued_for_its_slot_takes_nothing() -> None:
    async with open_stage() as stage:
        instance, task = await stage.started()
        async with all_slots_taken(instance):
            stage.produce(4)
            await until(lambda: task.writers.buffered == 4)
            await trio.sleep(1.0)  # by then a writer queues
            instance.learn(pause())
            await trio.sleep(1.0)
        await trio.sleep(LONG)
        assert stage.applied == []
        go_on(instance)
        await until(lambda: stage.committed == 4)


@scene
async def test_a_partition_that_is_paused_when_it_is_assigned_applies_nothing_first() -> None:
    async with open_stage() as stage:
        stage.produce(10)
        instance = stage.start()
        instance.learn(pause(topic="events", partition=0))
        task = await stage.task_of(instance)
        await trio.sleep(LONG)
        assert task.phase is Phase.RUNNING
        assert stage.applied == []
        go_on(instance)
        await until(lambda: stage.committed == 10)


@scene
async def test_nothing_more_is_fetched_of_it() -> None:
    async with open_stage() as stage:
        instance, task = await stage.started()
        instance.learn(pause())
        await trio.sleep(LONG)
        assert task.writers.paused
        for _ in range(20):
            stage.produce(20)
            await trio.sleep(1.0)
        assert task.writers.buffered == 0
        go_on(instance)
        await until(lambda: stage.committed == 400)


@scene
async def test_a_pause_of_something_else_changes_nothing() -> None:
    async with open_stage() as stage:
        instance = stage.start()
        instance.learn(pause(shard="db1"))
        stage.produce(10)
        await until(lambda: stage.committed == 10)


@scene
async def test_a_pause_ends_by_itself() -> None:
    async with open_stage() as stage:
        instance = stage.start()
        instance.learn(pause(until_seconds=20.0))
        stage.produce(10)
        await until(lambda: stage.committed == 10)
        assert 20.0 <= trio.current_time() < 23.0


@scene
async def test_a_paused_instance_stops_at_once_and_leaves_the_rest_to_the_next() -> None:
    async with open_stage() as stage:
        instance, _ = await stage.started()
        instance.learn(pause())
        stage.produce(10)
        await trio.sleep(LONG)
        started = trio.current_time()
        await instance.supervisor.stop()
        assert trio.current_time() - started < 2.0
        assert stage.applied == []
        stage.start()
        await until(lambda: stage.committed == 10)


@scene
async def test_a_partition_that_was_fenced_while_paused_holds_no_part_of_the_buffer() -> None:
    """The pause's end reaches tasks that have ended, too."""
    async with open_stage() as stage:
        instance, task = await stage.started()
        stage.server.work = 5.0
        stage.produce(10)
        await until(lambda: stage.server.writing == WRITERS)
        instance.learn(pause())
        await task.cancel()
        go_on(instance)
        await trio.sleep(1.0)
        budget = instance.supervisor._context.budget
        assert (budget.records, budget.size) == (0, 0)


def watch_of(stage: Stage, instance: Instance) -> tuple[LagWatch, ProgressWatch]:
    health = ProgressWatch(trio.current_time, str)
    tasks = instance.supervisor.tasks.values
    return LagWatch(instance.consumer, tasks, lambda _: True, stage.metrics, health), health


@scene
async def test_a_paused_partition_is_not_stuck_and_says_why_it_waits() -> None:
    async with open_stage() as stage, trio.open_nursery() as nursery:
        instance, _ = await stage.started()
        watch, health = watch_of(stage, instance)
        nursery.start_soon(watch.run)
        health.joined()
        instance.learn(pause())
        stage.produce(10)
        await trio.sleep(2 * STALL_SECONDS)
        (found,) = watch.snapshots()
        assert found.message_lag == 10
        assert health.live() == health.ready() == []
        story = "by ada@host since 1970-01-01 00:00 UTC: vacuum"
        assert health.notes() == [f"paused: shard db0 (1 partition here), {story}"]
        assert found.waits_for == f"the end of a pause {story}"
        assert 'pipeline_paused{what="shard db0"} 1.0' in stage.metrics.render().decode()
        go_on(instance)
        await until(lambda: stage.committed == 10)
        await trio.sleep(2.0)
        assert health.notes() == []
        assert "pipeline_paused{" not in stage.metrics.render().decode()
        assert SOURCE in instance.supervisor.tasks
        nursery.cancel_scope.cancel()
