"""A log that is another one, or begins later, while a partition's records wait: scene by scene."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.contracts.commit_metadata import ledger
from pipeline.contracts.kafka import LogMoved
from pipeline.kafka.record_batches import PlainBatch
from pipeline.records.record import RawBatch
from tests.simulation.kafka import TOPIC_ID
from tests.simulation.stage import BATCH, SOURCE, WRITERS, Stage, open_stage, scene, until


def count(stage: Stage, metric: str) -> float:
    found = getattr(stage.metrics, metric).labels(SOURCE.topic, str(SOURCE.partition))
    value: float = found._value.get()
    return value


@scene
@pytest.mark.parametrize("records", [5, 30])
async def test_a_topic_made_anew_is_read_from_its_first_record_on(records: int) -> None:
    async with open_stage() as stage:
        instance = stage.start()
        stage.watch_topics(instance)
        task = await stage.task_of(instance)
        stage.produce(20)
        await until(lambda: stage.committed == 20)
        stage.broker.recreate()
        stage.produce(records)
        await until(lambda: stage.committed == records)
        assert stage.applied == sorted([*range(20), *range(records)])
        assert instance.supervisor.tasks[SOURCE] is not task
        assert count(stage, "log_changes") == 1
        assert count(stage, "records_lost") == 0


@scene
async def test_what_waited_of_a_topic_that_was_deleted_is_counted_as_lost() -> None:
    async with open_stage() as stage:
        stage.server.work = 1.0
        instance = stage.start()
        stage.watch_topics(instance)
        await stage.task_of(instance)
        stage.produce(20)
        await until(lambda: stage.server.writing > 0)
        stage.broker.recreate()
        await until(lambda: count(stage, "log_changes") == 1)
        former = stage.applied
        assert len(former) + count(stage, "records_lost") == 20
        stage.server.work = 0.01
        stage.produce(3)
        await until(lambda: stage.committed == 3)
        assert stage.applied == sorted([*former, 0, 1, 2])


@scene
async def test_an_offset_that_was_committed_for_a_former_topic_says_nothing() -> None:
    """It may come a moment after the broker has forgotten the group's offsets along with the topic."""
    async with open_stage() as stage:
        stage.broker.recreate()
        stage.broker.committed[SOURCE] = (7, ledger(TOPIC_ID))
        stage.produce(10)
        await stage.task_of(stage.start())
        await until(lambda: stage.committed == 10)
        assert stage.applied == list(range(10))


@scene
async def test_what_was_read_before_retention_took_it_is_applied_all_the_same() -> None:
    """Its partition was full, and paused: only what nobody had read is lost."""
    async with open_stage(max_buffered=10, max_lanes=0) as stage:
        stage.server.work = 5.0
        instance, task = await stage.started()
        stage.produce(60)
        await until(lambda: task.writers.paused)
        read = task.writers.buffered
        stage.broker.delete_records(SOURCE, 50)
        stage.server.work = 0.01
        await until(lambda: stage.committed == 60)
        assert stage.applied == [*range(read), *range(50, 60)]
        assert count(stage, "records_lost") == 50 - read
        assert instance.supervisor.tasks[SOURCE] is task, "the partition is not taken over anew"


@scene
async def test_a_position_that_is_still_in_the_log_is_read_on() -> None:
    """Bounds may lag behind for a moment after a change of leaders."""
    async with open_stage() as stage:
        _, task = await stage.started()
        stage.produce(4)
        await until(lambda: stage.committed == 4)
        await task.reposition(LogMoved(SOURCE, 4))
        stage.produce(4)
        await until(lambda: stage.committed == 8)
        assert stage.applied == list(range(8))
        assert count(stage, "records_lost") == 0


@scene
@pytest.mark.parametrize("where", ["when it is fetched", "when it is decoded"])
async def test_a_record_below_the_position_leads_to_a_new_take_over(where: str) -> None:
    """It was dropped as known, without a word."""
    async with open_stage() as stage:
        instance, task = await stage.started()
        stage.produce(4)
        await until(lambda: stage.committed == 4)
        if where == "when it is decoded":
            stage.server.work = 1.0
            stage.produce(BATCH * WRITERS)
            await until(lambda: stage.server.writing > 0)
            stage.server.work = 0.01
        task.feed(batches_from(stage, 2))
        await until(lambda: count(stage, "log_changes") == 1)
        await until(lambda: instance.supervisor.tasks[SOURCE] is not task)
        stage.produce(4)
        end = stage.broker.end(SOURCE)
        await until(lambda: stage.committed == end)
        assert stage.applied == list(range(end))


def batches_from(stage: Stage, offset: int) -> Sequence[RawBatch]:
    """What a fetch from this offset on would give."""
    return [PlainBatch([m for m in stage.broker.logs[SOURCE] if m.offset >= offset])]
