"""The lag watch's look at all partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

from pipeline.consumer.channels import KeyChannels
from pipeline.consumer.lag import LagWatch
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.consumer.oldest_record import WaitingRecords
from pipeline.contracts.kafka import Position
from pipeline.contracts.lane import LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.snapshot import LaneSnapshot, Phase
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition

ENDS = 100


class Partition:
    """What the watch reads of a partition task, and how often it was looked at."""

    phase = Phase.OPENING
    since = 0.0
    assignment_id = 1
    pause = None

    def __init__(self, number: int, looked_at: Counter[int]) -> None:
        self._number = number
        self._looked_at = looked_at
        self.offsets = OffsetTracker(0)
        self.channels = KeyChannels()
        self.writers = SimpleNamespace(buffered=0, paused=False)
        self.buffered = self.in_flight = 0
        self.lanes = None
        self.position = Position(None, "", 0, ENDS - 1)

    @property
    def source(self) -> TopicPartition:
        self._looked_at[self._number] += 1
        return TopicPartition("topic", self._number)


class Ends:
    """Kafka, of which the last partition's end can't be had."""

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {source: ENDS + source.partition for source in list(sources)[:-1]}


async def test_each_partition_is_looked_at_a_few_times_however_many_there_are() -> None:
    """With 256 partitions each was compared with each."""
    looked_at: Counter[int] = Counter()
    tasks: Any = {number: Partition(number, looked_at) for number in range(256)}
    waiting = WaitingRecords(cast("Any", Ends()), tasks.values)
    await waiting.read_ends()
    assert [waiting.bounds(task).end for task in tasks.values()] == [
        *range(ENDS, ENDS + 255), ENDS - 1
    ]  # fmt: skip
    assert max(looked_at.values()) <= 4


async def test_a_snapshot_has_what_the_watch_knows_and_changes_nothing() -> None:
    """The watch wrote the log's bounds into the tasks that it watched."""
    task: Any = Partition(7, Counter())
    before = {**vars(task)}
    watch = LagWatch(
        cast("Any", Ends()), lambda: [task], lambda _: False, Metrics(), cast("Any", None)
    )
    (found,) = watch.snapshots()
    assert (found.source.partition, found.watermark, found.log_end, found.message_lag) == (
        7, 0, ENDS - 1, ENDS - 1
    )  # fmt: skip
    assert (found.answers, found.waits_for) == (False, "its take-over in the database")
    assert vars(task) == before


async def test_a_partition_that_has_nothing_else_to_do_says_what_waits_in_its_lanes() -> None:
    task: Any = Partition(7, Counter())
    task.phase = Phase.RUNNING
    watch = LagWatch(
        cast("Any", Ends()), lambda: [task], lambda _: True, Metrics(), cast("Any", None)
    )
    assert watch.snapshots()[0].waits_for == "records from Kafka"
    lanes = tuple(LaneSnapshot(n, Rule("key", n), LaneReason.HOLD, waiting=60) for n in range(2))
    task.lanes = SimpleNamespace(snapshots=lambda: lanes, keeps_back=False)
    (found,) = watch.snapshots()
    assert (found.lanes, found.waits_for) == (lanes, "records from Kafka; 120 wait in lanes")
