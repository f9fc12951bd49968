"""Lags of a partition wherever its records are: applied, fetched, or still in Kafka. In virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import orjson
import pytest
import trio

from pipeline.consumer.lag import LagWatch
from pipeline.observe.health import ProgressWatch
from pipeline.records.record import TopicPartition
from tests.simulation.instance import Instance
from tests.simulation.kafka import Message
from tests.simulation.postgres import State
from tests.simulation.stage import SOURCE, Stage, open_stage, scene, until

NOW = 1_000_000.0
"""Seconds since the epoch; this clock stands still, so that ages are exact."""

LOOKS = 3.5
"""Virtual seconds in which whatever can be known is known."""


class Watched:
    """An instance, and its gauges as a scrape finds them."""

    def __init__(self, stage: Stage, instance: Instance, watch: LagWatch) -> None:
        self.stage = stage
        self.instance = instance
        self.watch = watch
        self.read: list[Mapping[TopicPartition, tuple[int, int]]] = []
        """The spans of offsets that were read for gauges."""
        real = instance.consumer.first_records

        async def first_records(spans: Any) -> Any:
            self.read.append(spans)
            return await real(spans)

        instance.consumer.first_records = first_records  # type: ignore[method-assign]

    def gauge(self, name: str) -> float | None:
        """None where there is no series."""
        self.watch.set_gauges()
        return self.stage.metrics.exposition.registry.get_sample_value(
            name, {"topic": SOURCE.topic, "partition": str(SOURCE.partition)}
        )

    def lags(self) -> tuple[float | None, float | None]:
        """Messages, and seconds."""
        return self.gauge("pipeline_message_lag"), self.gauge("pipeline_time_lag_seconds")

    async def settled(self) -> tuple[float | None, float | None]:
        """The lags, when whatever can be known is known."""
        await trio.sleep(LOOKS)
        return self.lags()


def produce(stage: Stage, *ages: float, first: int | None = None) -> None:
    """A record for each age, in seconds, from offset ``first`` on (None: the log's end)."""
    offset = stage.broker.end(SOURCE) if first is None else first
    stage.broker.produce(
        SOURCE,
        [
            Message(n, orjson.dumps({"id": n, "n": 1}), timestamp=int((NOW - age) * 1000))
            for n, age in enumerate(ages, offset)
        ],
    )


def watched(stage: Stage, nursery: trio.Nursery) -> Watched:
    """Start an instance and its lag watch."""
    instance = stage.start()
    health = ProgressWatch(trio.current_time, str)
    tasks = instance.supervisor.tasks.values
    watch = LagWatch(
        instance.consumer, tasks, lambda _: True, stage.metrics, health, clock=lambda: NOW
    )
    result = Watched(stage, instance, watch)
    nursery.start_soon(watch.run)
    return result


async def assigned(stage: Stage, nursery: trio.Nursery) -> Watched:
    """The same; return it when it has the partition, though perhaps not taken over yet."""
    it = watched(stage, nursery)
    await until(lambda: SOURCE in it.instance.supervisor.tasks)
    return it


@asynccontextmanager
async def lag_stage() -> AsyncIterator[tuple[Stage, trio.Nursery]]:
    async with open_stage() as stage, trio.open_nursery() as nursery:
        yield stage, nursery
        nursery.cancel_scope.cancel()


@scene
async def test_an_empty_partition_has_none() -> None:
    async with lag_stage() as (stage, nursery):
        it = watched(stage, nursery)
        await it.stage.task_of(it.instance)
        assert await it.settled() == (0, 0)
        assert it.read == []


@scene
async def test_all_applied_is_none_and_nothing_was_read_for_it() -> None:
    async with lag_stage() as (stage, nursery):
        produce(stage, *[3600.0] * 100)
        it = watched(stage, nursery)
        await until(lambda: stage.committed == 100)
        assert await it.settled() == (0, 0)
        assert it.read == []


@scene
async def test_fetched_records_wait_since_the_oldest_not_applied() -> None:
    async with lag_stage() as (stage, nursery):
        it = watched(stage, nursery)
        await stage.task_of(it.instance)
        produce(stage, 500, 400, 300)
        await until(lambda: stage.committed == 3)
        stage.server.die(State.DEAD)
        produce(stage, 200, 100)
        assert await it.settled() == (2, 200)
        assert it.read == []


@scene
async def test_just_assigned_while_its_shard_is_away() -> None:
    async with lag_stage() as (stage, nursery):
        produce(stage, 500, 400, 300)
        stage.server.die(State.DEAD)
        it = await assigned(stage, nursery)
        assert await it.settled() == (3, 500)
        produce(stage, 50)
        await trio.sleep(10 * LOOKS)
        assert it.lags() == (4, 500)
        assert it.read == [{SOURCE: (0, 3)}]  # once, however long it lasts
        stage.server.revive()
        await until(lambda: stage.committed == 4)
        assert await it.settled() == (0, 0)


@scene
async def test_what_the_group_has_committed_does_not_wait_for_the_take_over() -> None:
    async with lag_stage() as (stage, nursery):
        produce(stage, 500, 400, 300)
        stage.broker.committed[SOURCE] = (2, "")
        stage.server.die(State.DEAD)
        it = await assigned(stage, nursery)
        assert await it.settled() == (1, 300)


@scene
async def test_a_take_over_that_hangs() -> None:
    async with lag_stage() as (stage, nursery):
        stage.server.work = 100.0
        produce(stage, 500, 400)
        stage.broker.committed[SOURCE] = (1, "")
        zombie = stage.start()
        await stage.task_of(zombie)
        await until(lambda: stage.server.writing > 0)
        zombie.awake.close()
        stage.expel(zombie)
        it = await assigned(stage, nursery)  # waits for the transactions of the former owner
        await trio.sleep(LOOKS)
        assert it.instance.supervisor.tasks[SOURCE].claim is None
        assert it.lags() == (1, 400)
        zombie.awake.open()


@scene
async def test_paused_with_all_that_was_fetched_applied() -> None:
    async with lag_stage() as (stage, nursery):
        it = watched(stage, nursery)
        await stage.task_of(it.instance)
        produce(stage, 5000)
        await until(lambda: stage.committed == 1)
        it.instance.consumer.pause(SOURCE)
        await trio.sleep(LOOKS)
        produce(stage, 200, 100)
        assert await it.settled() == (2, 200)
        it.instance.consumer.resume(SOURCE)
        await until(lambda: stage.committed == 3)
        assert await it.settled() == (0, 0)


@scene
async def test_a_new_record_after_a_long_silence_is_no_old_one() -> None:
    """Until it is fetched, the gauge keeps what it showed: not the age of the record before it."""
    async with lag_stage() as (stage, nursery):
        it = watched(stage, nursery)
        await stage.task_of(it.instance)
        produce(stage, 5000)
        await until(lambda: stage.committed == 1)
        it.instance.consumer.pause(SOURCE)
        assert await it.settled() == (0, 0)
        produce(stage, 1)
        await until(lambda: it.lags()[0] == 1)
        assert it.lags() == (1, 0)
        assert await it.settled() == (1, 1)


@scene
async def test_after_a_seek_to_the_groups_offset() -> None:
    async with lag_stage() as (stage, nursery):
        produce(stage, 500, 400, 300, 200)
        stage.broker.committed[SOURCE] = (2, "")
        it = watched(stage, nursery)
        start = it.instance.consumer.seek_and_resume

        def start_paused(source: TopicPartition, offset: int, topic_id: UUID | None = None) -> None:
            start(source, offset, topic_id)
            it.instance.consumer.pause(source)

        it.instance.consumer.seek_and_resume = start_paused  # type: ignore[method-assign]
        await stage.task_of(it.instance)
        assert await it.settled() == (2, 300)


@scene
async def test_retention_that_passes_what_waits() -> None:
    async with lag_stage() as (stage, nursery):
        produce(stage, 500, 400, 300, 200)
        stage.broker.committed[SOURCE] = (1, "")
        stage.server.die(State.DEAD)
        it = await assigned(stage, nursery)
        assert await it.settled() == (3, 400)
        del stage.broker.logs[SOURCE][:3]
        stage.broker.starts[SOURCE] = 3
        assert await it.settled() == (1, 200)
        stage.broker.logs[SOURCE].clear()
        stage.broker.starts[SOURCE] = 4
        assert await it.settled() == (0, 0)


@scene
async def test_offsets_that_hold_no_record_are_passed_over() -> None:
    async with lag_stage() as (stage, nursery):
        stage.broker.committed[SOURCE] = (1, "")
        produce(stage, 500)
        produce(stage, 300, first=7)
        stage.server.die(State.DEAD)
        it = await assigned(stage, nursery)
        assert await it.settled() == (7, 300)


@scene
async def test_where_no_record_is_left_there_is_no_age_until_one_comes() -> None:
    async with lag_stage() as (stage, nursery):
        produce(stage, 500)
        stage.broker.committed[SOURCE] = (1, "")
        stage.server.die(State.DEAD)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage.broker, "end", lambda _: 3)  # a transaction's markers
            it = await assigned(stage, nursery)
            assert await it.settled() == (0, 0), "markers are no records"
            await trio.sleep(LOOKS)
            assert it.read == [{SOURCE: (1, 3)}]
        produce(stage, 100, first=3)
        assert await it.settled() == (3, 100)


@scene
async def test_a_record_without_a_timestamp_has_no_age() -> None:
    async with lag_stage() as (stage, nursery):
        it = watched(stage, nursery)
        await stage.task_of(it.instance)
        stage.server.die(State.DEAD)
        stage.broker.produce(SOURCE, [Message(0, b'{"id": 1, "n": 1}', timestamp=-1)])
        assert await it.settled() == (1, 0)


@scene
async def test_what_is_not_known_has_no_series_and_a_kafka_that_is_away_harms_nobody() -> None:
    async with lag_stage() as (stage, nursery):
        produce(stage, 500, 400)
        stage.server.die(State.DEAD)
        it = await assigned(stage, nursery)
        it.instance.consumer.connected.close()
        assert it.lags() == (None, None)
        assert await it.settled() == (None, None)
        it.instance.consumer.connected.open()
        assert await it.settled() == (2, 500)
        stage.server.revive()
        await until(lambda: stage.committed == 2)
        assert it.instance.alive
