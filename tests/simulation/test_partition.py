"""A partition's life, scene by scene in virtual time: drains, losses, pauses, fences."""

from __future__ import annotations

import gc
from collections.abc import Callable

import orjson
import pytest
import trio

from pipeline.consumer.assignment import RETAKE_SECONDS
from pipeline.consumer.channels import Batch
from pipeline.consumer.partition import PartitionTask
from pipeline.contracts.snapshot import Phase
from pipeline.records.record import TopicPartition
from tests.simulation.kafka import IDLE_POLL_SECONDS
from tests.simulation.stage import (
    BATCH,
    DRAIN_SECONDS,
    POLL_AT_ONCE,
    SOURCE,
    WRITERS,
    open_stage,
    scene,
    until,
)

Move = Callable[[TopicPartition], None]

IN_FLIGHT = BATCH * WRITERS


@scene
async def test_a_drain_finishes_what_is_in_flight_and_drops_what_waits() -> None:
    async with open_stage() as stage:
        stage.server.work = DRAIN_SECONDS / 2
        stage.produce(10)
        instance, task = await stage.started()
        await until(lambda: stage.server.writing == WRITERS)
        await instance.supervisor.stop()
        assert stage.applied == list(range(IN_FLIGHT))
        assert stage.committed == IN_FLIGHT
        assert task.phase is Phase.ENDED
        stage.start()
        await until(lambda: stage.committed == 10)
        assert stage.applied == list(range(10))


@scene
async def test_what_is_applied_is_held_by_nobody() -> None:
    """Each writer held its last batch until it had another."""
    gc.collect()  # what other tests left
    before = len(live_batches())
    async with open_stage() as stage:
        stage.server.work = 1.0
        stage.produce(10)
        await stage.task_of(stage.start())
        await until(lambda: stage.server.writing == WRITERS)
        assert len(live_batches()) > before
        await until(lambda: stage.committed == 10)
        assert len(live_batches()) == before


def live_batches() -> list[Batch]:
    return [thing for thing in gc.get_objects() if type(thing) is Batch]


@scene
async def test_a_drain_past_its_deadline_cancels() -> None:
    async with open_stage() as stage:
        stage.server.work = 30.0
        stage.produce(10)
        instance, _ = await stage.started()
        await until(lambda: stage.server.writing == WRITERS)
        started = trio.current_time()
        await instance.supervisor.stop()
        # The poll that is under way can't be cancelled.
        longest = DRAIN_SECONDS + IDLE_POLL_SECONDS + 0.1
        assert DRAIN_SECONDS <= trio.current_time() - started < longest
        assert stage.applied == []
        assert stage.committed in (None, 0)
        stage.server.work = 0.01
        stage.start()
        await until(lambda: stage.committed == 10)
        assert stage.applied == list(range(10))


@scene
async def test_a_lost_partition_commits_nothing() -> None:
    async with open_stage() as stage:
        instance, task = await stage.started()
        stage.produce(4)
        await until(lambda: stage.applied == [0, 1, 2, 3])
        stage.commits.clear()
        stage.expel(instance)
        await until(lambda: instance.supervisor.tasks.get(SOURCE) is not task)
        assert task.phase is Phase.ENDED
        assert task.offsets.watermark == 4
        assert stage.commits == []
        await until(lambda: stage.committed == 4)  # the new assignment's: the ledger knew
        assert stage.applied == [0, 1, 2, 3]


@scene
async def test_a_lost_partition_is_cancelled_at_once() -> None:
    async with open_stage() as stage:
        stage.server.work = 30.0
        stage.produce(4)
        instance, task = await stage.started()
        await until(lambda: stage.server.writing == WRITERS)
        stage.expel(instance)
        started = trio.current_time()
        await task.ended.wait()
        assert trio.current_time() - started < 1.0


@scene
@pytest.mark.parametrize("padding", [0, 1000])
async def test_a_full_partition_is_paused_and_resumed_at_half(
    monkeypatch: pytest.MonkeyPatch, padding: int
) -> None:
    """By records or, where they are large, by bytes."""
    full = 8
    size = len(orjson.dumps({"id": "k10", "n": 1, "pad": "x" * padding}))
    limits = {"max_buffered_bytes": full * size} if padding else {"max_buffered": full}
    moves: list[tuple[str, int]] = []

    def noted(name: str, move: Move, task: PartitionTask) -> Move:
        def carried_out(source: TopicPartition) -> None:
            moves.append((name, task.writers.buffered))
            move(source)

        return carried_out

    async with open_stage(**limits) as stage:
        stage.server.work = 0.2
        stage.produce(2 * POLL_AT_ONCE, padding)
        instance, task = await stage.started()
        consumer = instance.consumer
        for move in ("pause", "resume"):
            monkeypatch.setattr(consumer, move, noted(move, getattr(consumer, move), task))
        await until(lambda: stage.committed == 2 * POLL_AT_ONCE)
    paused = [buffered for move, buffered in moves if move == "pause"]
    resumed = [buffered for move, buffered in moves if move == "resume"]
    assert [move for move, _ in moves] == ["pause", "resume"] * len(paused)
    assert all(full <= buffered < full + POLL_AT_ONCE for buffered in paused)
    assert all(full // 2 - IN_FLIGHT <= buffered <= full // 2 for buffered in resumed)


@scene
async def test_a_fenced_writer_ends_its_partition_quietly_and_it_is_retaken() -> None:
    async with open_stage() as stage:
        instance, task = await stage.started()
        stage.take_away(task)
        stage.produce(6)
        await task.ended.wait()
        fenced_at = trio.current_time()
        assert task.fenced
        assert stage.applied == []
        await until(lambda: instance.supervisor.tasks[SOURCE] is not task)
        assert RETAKE_SECONDS <= trio.current_time() - fenced_at < RETAKE_SECONDS + 0.1
        await until(lambda: stage.committed == 6)
        assert stage.applied == list(range(6))
        assert stage.metrics.fenced.labels(*map(str, SOURCE))._value.get() == 1
        assert instance.alive


@scene
async def test_a_fenced_partition_that_has_gone_is_not_retaken() -> None:
    async with open_stage() as stage:
        instance, task = await stage.started()
        stage.take_away(task)
        stage.produce(6)
        await task.ended.wait()
        await instance.supervisor.stop()
        await trio.sleep(2 * RETAKE_SECONDS)
        assert instance.ended.is_set()
        assert stage.applied == []


@scene
async def test_a_takeover_waits_for_the_writes_that_run() -> None:
    async with open_stage() as stage:
        stage.server.work = 5.0
        stage.produce(4)
        zombie = stage.start()
        await stage.task_of(zombie)
        await until(lambda: stage.server.writing == WRITERS)
        zombie.awake.close()
        stage.expel(zombie)
        owner = stage.start()
        task = await stage.task_of(owner)
        assert stage.applied == [0, 1, 2, 3]
        assert task.offsets.watermark == 4
        zombie.awake.open()
        await trio.sleep(10.0)
        assert stage.applied == [0, 1, 2, 3]
        assert stage.committed == 4


@scene
async def test_late_work_of_an_old_assignment_changes_nothing() -> None:
    async with open_stage() as stage:
        stage.server.transit = 9.0  # sent, and long on its way
        stage.produce(4)
        zombie = stage.start()
        old = await stage.task_of(zombie)
        await until(lambda: stage.server.writing == WRITERS)
        zombie.awake.close()
        stage.expel(zombie)
        stage.server.transit = 0.001
        owner = stage.start()
        new = await stage.task_of(owner)
        await until(lambda: stage.committed == 4)
        await until(lambda: not stage.server.writing)  # the late ones have landed, and were fenced
        zombie.awake.open()
        await old.ended.wait()
        assert stage.applied == [0, 1, 2, 3]
        assert new.phase is Phase.RUNNING
        assert new.offsets.watermark == 4
        assert stage.committed == 4


# Defects that the histories found


@scene
async def test_a_commit_that_waited_while_its_partition_was_lost_is_not_made() -> None:
    async with open_stage() as stage:
        instance, _ = await stage.started()
        stage.produce(4)
        await until(lambda: stage.committed == 4)
        stage.produce(4)
        await until(lambda: len(stage.applied) == 8)
        instance.awake.close()
        committing = instance.supervisor._committing
        await until(committing.locked)  # a commit is under way, and will be refused
        async with trio.open_nursery() as nursery:
            nursery.start_soon(instance.supervisor.stop)  # drains, and waits to commit 8
            await until(lambda: committing.statistics().tasks_waiting == 1)
            stage.expel(instance)
            stage.broker.committed[SOURCE] = (20, "")  # another owner's, meanwhile
            instance.awake.open()
        assert stage.committed == 20


@scene
async def test_a_partition_retaken_before_its_first_commit_starts_where_it_started() -> None:
    async with open_stage() as stage:
        stage.server.work = 0.2
        stage.produce(6)
        _, task = await stage.started()
        await until(lambda: stage.server.writing == WRITERS)
        assert stage.commits == []
        stage.take_away(task)
        await task.ended.wait()
        await until(lambda: stage.committed == 6)
        assert stage.applied == list(range(6))
