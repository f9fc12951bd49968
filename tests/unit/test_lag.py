"""The lag watch's look at all partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import attrs

from pipeline.consumer.lag import LagWatch
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.consumer.partition import Phase
from pipeline.observe.health import Progress
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition

ENDS = 100


class Partition:
    """What the watch reads of a partition task, and how often it was looked at."""

    phase = Phase.OPENING
    log_start = 0
    log_end: int | None = None

    def __init__(self, number: int, looked_at: Counter[int]) -> None:
        self._number = number
        self._looked_at = looked_at
        self.offsets = OffsetTracker(0)

    @property
    def source(self) -> TopicPartition:
        self._looked_at[self._number] += 1
        return TopicPartition("topic", self._number)


class Ends:
    """Kafka, of which the last partition's end can't be had."""

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {source: ENDS + source.partition for source in list(sources)[:-1]}


@attrs.define
class Heard:
    """A progress watch that keeps what it is told."""

    progress: list[Progress] = attrs.field(factory=list)

    def feed(self, progress: Iterable[Progress]) -> None:
        self.progress = list(progress)


async def test_each_partition_is_looked_at_a_few_times_however_many_there_are() -> None:
    """With 256 partitions each was compared with each."""
    looked_at: Counter[int] = Counter()
    tasks: Any = {number: Partition(number, looked_at) for number in range(256)}
    heard = Heard()
    watch = LagWatch(
        cast("Any", Ends()), tasks.values, lambda _: True, Metrics(), cast("Any", heard)
    )
    await watch._look()
    assert [task.log_end for task in tasks.values()] == [*range(ENDS, ENDS + 255), None]
    assert [progress.lag for progress in heard.progress] == [*range(ENDS, ENDS + 255), 0]
    assert max(looked_at.values()) <= 4
