"""Lag: how many records wait, and how old the oldest is, by partition.

Both count what is *applied*, not what is fetched: a record that was read and waits for Postgres lags
as much as one that is still in Kafka.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

import trio

from pipeline.consumer.oldest_record import WaitingRecords
from pipeline.consumer.partition import PartitionTask
from pipeline.contracts.kafka import Consumer
from pipeline.contracts.snapshot import LaneSnapshot, PartitionSnapshot, Phase
from pipeline.observe.health import ProgressWatch
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition

WATCH_SECONDS = 1.0


class LagWatch:
    """Makes the partitions' snapshots; sets the gauges and feeds the progress watch from them.

    Args:
        consumer: where the ends of the logs come from.
        tasks: the partition tasks of this moment.
        answers: whether a partition's shard can be reached.
        metrics: whose gauges of partitions are set before each scrape.
        health: what is told of each partition's progress once a second.
        refused: how many of a partition's transactions the database has refused for now.
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
        refused: Callable[[TopicPartition], int] = lambda _: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tasks = tasks
        self._answers = answers
        self._refused = refused
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._waiting = WaitingRecords(consumer, tasks)

    async def run(self) -> None:
        """Watch until cancelled."""
        self._metrics.exposition.add_source(self.set_gauges)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._waiting.run)
                while True:
                    await self._waiting.read_ends()
                    self._health.feed(self.snapshots())
                    await trio.sleep(WATCH_SECONDS)
        finally:
            self._metrics.exposition.remove_source(self.set_gauges)

    def snapshots(self) -> list[PartitionSnapshot]:
        """Every assigned partition as it is now. Not a checkpoint."""
        now = self._clock()
        return [self._snapshot(task, now) for task in self._tasks()]

    def _snapshot(self, task: PartitionTask, now: float) -> PartitionSnapshot:
        bounds = self._waiting.bounds(task)
        lanes = task.lanes.snapshots() if task.lanes else ()
        return PartitionSnapshot(
            source=task.source,
            assignment_id=task.assignment_id,
            phase=task.phase,
            phase_seconds=trio.current_time() - task.since,
            watermark=task.offsets.watermark,
            log_start=bounds.start,
            log_end=bounds.end,
            message_lag=self._waiting.message_lag(task),
            time_lag=self._waiting.time_lag(task, now),
            buffered=task.buffered,
            in_flight=task.in_flight,
            keys=task.channels.active_keys,
            paused=task.writers.paused,
            answers=self._answers(task.source),
            refused=self._refused(task.source),
            kept_back=task.lanes is not None and task.lanes.keeps_back,
            pause=task.pause,
            waits_for=waits_for(task, lanes),
            lanes=lanes,
        )

    def set_gauges(self) -> None:
        """Set every gauge of every partition, as far as it is known; runs before a scrape."""
        snapshots = self.snapshots()
        self._set_paused(snapshots)
        self._set_lanes(snapshots)
        for found in snapshots:
            labels = (found.source.topic, str(found.source.partition))
            if found.message_lag is not None:
                self._metrics.message_lag.labels(*labels).set(found.message_lag)
            if found.time_lag is not None:
                self._metrics.time_lag_seconds.labels(*labels).set(found.time_lag)
            self._metrics.buffered_records.labels(*labels).set(found.buffered)
            self._metrics.key_channels.labels(*labels).set(found.keys)
            self._metrics.partition_paused.labels(*labels).set(found.pause is not None)
            standing = self._health.standing_seconds(found.source)
            self._metrics.standing_seconds.labels(*labels).set(standing)

    def _set_paused(self, snapshots: Collection[PartitionSnapshot]) -> None:
        """How many partitions each pause stops; one that has ended has no series any more."""
        self._metrics.paused.clear()
        stopped = Counter(str(found.pause.what) for found in snapshots if found.pause is not None)
        for what, partitions in stopped.items():
            self._metrics.paused.labels(what).set(partitions)

    def _set_lanes(self, snapshots: Collection[PartitionSnapshot]) -> None:
        """What waits in lanes; a partition without any has no series."""
        records, oldest = self._metrics.lane_records, self._metrics.lane_time_lag_seconds
        records.clear()
        oldest.clear()
        self._metrics.lane_retention_seconds.clear()
        for found in snapshots:
            for reason in {lane.reason for lane in found.lanes}:
                lanes = [lane for lane in found.lanes if lane.reason is reason]
                labels = (found.source.topic, str(found.source.partition), reason.value)
                records.labels(*labels).set(sum(lane.waiting for lane in lanes))
                oldest.labels(*labels).set(max(lane.time_lag for lane in lanes))
                left = [lane.retention for lane in lanes if lane.retention is not None]
                if left:
                    self._metrics.lane_retention_seconds.labels(*labels).set(min(left))


def longest_lag(snapshots: Collection[PartitionSnapshot]) -> float | None:
    """Return the longest time lag of these partitions; None while one of them is not known."""
    lags = [found.time_lag for found in snapshots]
    known = [lag for lag in lags if lag is not None]
    return max(known, default=0.0) if len(known) == len(lags) else None


def waits_for(task: PartitionTask, lanes: Iterable[LaneSnapshot] = ()) -> str:
    """What a partition waits for, for people."""
    if task.phase is Phase.OPENING:
        return "its take-over in the database"
    if task.channels.in_flight:
        return task.writers.waits_for
    if task.pause is not None:
        return f"the end of a pause {task.pause.story()}"
    if task.lanes is not None and task.lanes.keeps_back:
        return "a lane for records that can't go on; limits.max_lanes are open"
    if task.writers.buffered:
        return "a slot at its shard"
    if waiting := sum(lane.waiting for lane in lanes):
        return f"records from Kafka; {waiting} wait in lanes"
    return "records from Kafka"
