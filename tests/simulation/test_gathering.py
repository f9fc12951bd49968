"""When a batch goes, in virtual time: at once, when it is full, or when it has waited long enough."""

from __future__ import annotations

import pytest
import trio

from pipeline.consumer.lag import waits_for
from pipeline.postgres.store import batch_sizer as sizer
from tests.simulation.stage import BATCH, Stage, open_stage, scene, until

LONG = 30.0
SOON = 1.0


async def with_one_in_flight(stage: Stage) -> None:
    """A record that went alone, and whose transaction takes a while."""
    stage.server.work = 5.0
    task = await stage.task_of(stage.start())
    stage.produce(1)
    started = trio.current_time()
    await until(lambda: stage.server.writing == 1)
    assert trio.current_time() - started < SOON
    assert task.channels.in_flight == 1


@scene
async def test_where_none_is_in_flight_a_record_goes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizer, "LINGER_SECONDS", LONG)
    async with open_stage() as stage:
        await with_one_in_flight(stage)


@scene
async def test_while_one_is_in_flight_the_next_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizer, "LINGER_SECONDS", LONG)
    async with open_stage() as stage:
        await with_one_in_flight(stage)
        stage.produce(1)
        await trio.sleep(stage.server.work / 2)
        assert stage.server.writing == 1
        await until(lambda: stage.applied == [0] and stage.server.writing == 1)
        await until(lambda: stage.applied == [0, 1])
        assert trio.current_time() < 2 * stage.server.work + 2 * SOON < LONG


@scene
async def test_a_full_batch_goes_beside_the_one_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizer, "LINGER_SECONDS", LONG)
    async with open_stage() as stage:
        await with_one_in_flight(stage)
        stage.produce(BATCH)
        started = trio.current_time()
        await until(lambda: stage.server.writing == 2)
        assert trio.current_time() - started < SOON


@scene
async def test_nothing_waits_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    linger = 2.0
    monkeypatch.setattr(sizer, "LINGER_SECONDS", linger)
    async with open_stage() as stage:
        await with_one_in_flight(stage)
        stage.produce(1)
        started = trio.current_time()
        await until(lambda: stage.server.writing == 2)
        assert linger <= trio.current_time() - started < linger + SOON


@scene
async def test_what_is_fetched_is_decoded_only_as_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shard that stands still leaves its partition's records as they came."""
    monkeypatch.setattr("pipeline.consumer.writers.DECODE_AT_ONCE", 3)
    async with open_stage() as stage:
        stage.server.work = LONG
        stage.produce(20)
        task = await stage.task_of(stage.start())
        await until(lambda: stage.server.writing == 2)
        await trio.sleep(SOON)
        assert task.writers.buffered == 20
        assert task.channels.in_flight == 2 * BATCH
        assert task.channels.waiting < 3
        stage.server.work = 0.01
        await until(lambda: stage.applied == list(range(20)))


@scene
async def test_a_batch_is_bounded_by_bytes_and_takes_any_single_record() -> None:
    size = 1000
    async with open_stage(max_batch_bytes=2 * size + size // 2) as stage:
        stage.server.work = 1.0
        stage.produce(6, padding=size)
        task = await stage.task_of(stage.start())
        await until(lambda: stage.server.writing == 2)
        assert task.channels.in_flight == 4
        await until(lambda: stage.applied == list(range(6)))
        stage.produce(2, padding=5 * size)
        await until(lambda: task.channels.in_flight == 2 and stage.server.writing == 2)
        await until(lambda: stage.applied == list(range(8)))


@scene
async def test_what_waits_undecoded_has_its_age_and_waits_for_a_turn() -> None:
    """Before the first batch of a partition was applied, its time lag counted from the assignment."""
    async with open_stage() as stage:
        instance, task = await stage.started()
        (shard,) = instance.shards
        async with shard.limiter.slot():
            shard.limiter._slots.allow(1, 1)  # nobody else gets a slot
            stage.produce(20)
            await until(lambda: task.writers.buffered == 20)
            assert task.channels.waiting == 1
            assert task.offsets.oldest_timestamp == 0
            assert waits_for(task) == "a slot at its shard"
        await until(lambda: stage.applied == list(range(20)))
