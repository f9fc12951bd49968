"""Lag: how many records wait, and how old the oldest is, by partition.

Both count what is *applied*, not what is fetched: a record that was read and waits for Postgres lags
as much as one that is still in Kafka.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

import trio

from pipeline.consumer.oldest_record import WaitingRecords, message_lag
from pipeline.consumer.partition import PartitionTask, Phase
from pipeline.contracts.kafka import Consumer
from pipeline.observe.health import Progress, ProgressWatch
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0


class LagWatch:
    """Keeps the ends of the logs, sets the gauges of partitions, and feeds the progress watch.

    Args:
        consumer: where the ends of the logs come from.
        tasks: the partition tasks of this moment.
        answers: whether a partition's shard can be reached.
        metrics: whose gauges of partitions are set before each scrape.
        health: what is told of each partition's progress once a second.
        clock: the wall clock, seconds since the epoch, as records' timestamps.
    """

    def __init__(
        self,
        consumer: Consumer,
        tasks: Callable[[], Collection[PartitionTask]],
        answers: Callable[[TopicPartition], bool],
        metrics: Metrics,
        health: ProgressWatch,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._consumer = consumer
        self._tasks = tasks
        self._answers = answers
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._waiting = WaitingRecords(consumer, tasks)

    async def run(self) -> None:
        """Watch until cancelled."""
        self._metrics.add_source(self.set_gauges)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._waiting.run)
                while True:
                    await self._look()
                    await trio.sleep(WATCH_SECONDS)
        finally:
            self._metrics.remove_source(self.set_gauges)

    async def _look(self) -> None:
        tasks = {task.source: task for task in self._tasks()}
        for source, end in (await self._consumer.ends(tasks)).items():
            tasks[source].log_end = end
        self._health.feed(
            Progress(
                task.source,
                task.offsets.watermark or 0,
                message_lag(task) or 0,
                self._answers(task.source),
                waits_for(task),
            )
            for task in self._tasks()
        )

    def set_gauges(self) -> None:
        """Set every gauge of every partition, as far as it is known; runs before a scrape."""
        now = self._clock()
        for task in self._tasks():
            labels = (task.source.topic, str(task.source.partition))
            if (lag := message_lag(task)) is not None:
                self._metrics.message_lag.labels(*labels).set(lag)
            if (age := self._waiting.time_lag(task, now)) is not None:
                self._metrics.time_lag_seconds.labels(*labels).set(age)
            self._metrics.buffered_records.labels(*labels).set(task.buffered)
            self._metrics.key_channels.labels(*labels).set(task.channels.active_keys)


def waits_for(task: PartitionTask) -> str:
    """What a partition waits for, for people."""
    if task.phase is Phase.OPENING:
        return "its take-over in the database"
    if task.channels.in_flight:
        return "a transaction in the database"
    if task.buffered:
        return "a slot at its shard"
    return "records from Kafka"
