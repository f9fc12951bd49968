"""How old the oldest waiting record of each partition is, also where nobody here has read it yet.

A partition's task knows the timestamps of the records that it was given. Nothing was given to it that
waits where its shard has been away since it was assigned, its take-over is stuck, or it is paused and
all that was fetched is applied. Then Kafka is asked: where the log begins, and what the first record
is at the watermark or above.

That is read when two looks, a second apart, find the partition at the same place, and once for that
place. A partition that moves needs no reading: its record that was applied last is as old, to a second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs
import trio

from pipeline.consumer.partition import PartitionTask, Phase
from pipeline.contracts.kafka import Consumer

LOOK_SECONDS = 1.0


@attrs.frozen
class Oldest:
    """What was read: no record lies from ``begin`` up to ``offset``.

    ``timestamp`` is that of the record at ``offset``, in milliseconds; None where the log ended there.
    """

    begin: int
    offset: int
    timestamp: int | None


def begin_of(task: PartitionTask) -> int | None:
    """The offset at which what waits begins: the watermark, or the log's start where that is above.

    While the take-over lasts it is the group's committed offset; None before that is known.
    """
    watermark = task.offsets.watermark
    if watermark is None:
        watermark = task.group_offset if task.group_offset is not None else task.log_start
    return None if watermark is None else max(watermark, task.log_start or 0)


def message_lag(task: PartitionTask) -> int | None:
    """The end of the log minus the watermark; never below 0. None while either is unknown.

    Kafka counts offsets, and some are no records (compacted ones, markers of transactions), so this
    can be above the number of records that wait.
    """
    begin = begin_of(task)
    return None if begin is None or task.log_end is None else max(0, task.log_end - begin)


class WaitingRecords:
    """Asks Kafka about the partitions that lag and stand still, once a second.

    Kafka away, or slow, it learns nothing new; nobody else waits for it.
    """

    def __init__(self, consumer: Consumer, tasks: Callable[[], Collection[PartitionTask]]) -> None:
        self._consumer = consumer
        self._tasks = tasks
        self._begins: dict[PartitionTask, int | None] = {}  # at the last look
        self._oldest: dict[PartitionTask, Oldest] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask about the partitions that stand where they stood at the last look. A checkpoint."""
        before = self._begins
        still = [task for task in self._tasks() if _unsure(task, before)]
        await self._place(still)
        await self._read(
            [task for task in still if before.get(task) == begin_of(task) and self._unread(task)]
        )
        self._begins = {task: begin_of(task) for task in self._tasks()}
        self._oldest = {task: seen for task, seen in self._oldest.items() if task in self._begins}

    def time_lag(self, task: PartitionTask, now: float) -> float | None:
        """Age in seconds of the oldest record at or above the watermark.

        0 where none waits, or it has no timestamp; None while that is not known: at most for two
        seconds after it was assigned, or after it stopped moving, as long as Kafka answers.
        """
        lag = message_lag(task)
        if not lag:
            return lag
        stamp = task.offsets.oldest_timestamp
        if stamp is None:
            seen = self._oldest.get(task)
            if seen is not None and seen.begin == begin_of(task):
                stamp = -1 if seen.timestamp is None else seen.timestamp
            elif self._begins.get(task) != begin_of(task):
                stamp = task.offsets.newest_applied_timestamp
        if stamp is None:
            return None
        return max(0.0, now - stamp / 1000) if stamp >= 0 else 0.0

    async def _place(self, tasks: Collection[PartitionTask]) -> None:
        """Note where logs begin, and where the group stands in those that are being taken over."""
        by_source = {task.source: task for task in tasks}
        for source, position in (await self._consumer.try_positions(by_source)).items():
            task = by_source[source]
            task.log_start, task.log_end = position.start, position.end
            if task.offsets.watermark is None:
                committed = position.committed
                task.group_offset = position.reset if committed is None else committed

    def _unread(self, task: PartitionTask) -> bool:
        if task.offsets.oldest_timestamp is not None or not message_lag(task):
            return False
        seen = self._oldest.get(task)
        if seen is None or seen.begin != begin_of(task):
            return True
        return seen.timestamp is None and seen.offset < (task.log_end or 0)

    async def _read(self, tasks: Collection[PartitionTask]) -> None:
        spans = {task.source: (begin_of(task) or 0, task.log_end or 0) for task in tasks}
        found = await self._consumer.first_records(spans) if spans else {}
        for task in tasks:
            if task.source in found:
                begin, end = spans[task.source]
                record = found[task.source]
                self._oldest[task] = (
                    Oldest(begin, end, None)
                    if record is None
                    else Oldest(begin, record.offset, record.timestamp)
                )


def _unsure(task: PartitionTask, before: dict[PartitionTask, int | None]) -> bool:
    if task.phase is Phase.OPENING:
        return True
    still = task in before and before[task] == begin_of(task)
    return task.phase is Phase.RUNNING and still and bool(message_lag(task))
