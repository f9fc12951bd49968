"""How old the oldest waiting record of each partition is, also if nobody here has read it yet.

A partition's task knows the timestamps of the records that it was given. It was given nothing that
waits if its shard has been away since the assignment, its take-over is stuck, or it is paused and all
that was fetched is applied. Then Kafka is asked: where the log begins, and what the first record is at
the watermark or above.

That is read when two looks, a second apart, find the partition at the same place, and once for that
place. A partition that moves needs no reading: its record that was applied last is as old, to a second.

What is learnt is kept here, a `Bounds` per task; the tasks know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs
import trio

from pipeline.consumer.partition import PartitionTask
from pipeline.contracts.kafka import Consumer, Position
from pipeline.contracts.snapshot import Phase, age_of, lag_between

LOOK_SECONDS = 1.0


@attrs.define
class Bounds:
    """Where a partition's log begins and ends, as far as the watch has learnt.

    Attributes:
        start: the log's first offset.
        end: the offset after the log's last record.
        group: the group's committed offset, while the take-over lasts and nothing better is known.
    """

    start: int | None = None
    end: int | None = None
    group: int | None = None


@attrs.frozen
class Oldest:
    """What was read: no record lies from ``begin`` up to ``offset``.

    ``timestamp`` is that of the record at ``offset``, in milliseconds; None if the log ended there.
    """

    begin: int
    offset: int
    timestamp: int | None


class WaitingRecords:
    """What waits in each partition: how many records, and how old the oldest is.

    Asks Kafka about the partitions that lag and stand still, once a second. Kafka away, or slow, it
    learns nothing new; nobody else waits for it.
    """

    def __init__(self, consumer: Consumer, tasks: Callable[[], Collection[PartitionTask]]) -> None:
        self._consumer = consumer
        self._tasks = tasks
        self._bounds: dict[PartitionTask, Bounds] = {}
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
        still = [task for task in self._tasks() if self._unsure(task, before)]
        await self._place(still)
        await self._read(
            [task for task in still if before.get(task) == self.begin(task) and self._unread(task)]
        )
        tasks = self._tasks()
        self._begins = {task: self.begin(task) for task in tasks}
        self._oldest = {task: seen for task, seen in self._oldest.items() if task in self._begins}
        self._bounds = {task: self.bounds(task) for task in tasks}

    async def read_ends(self) -> None:
        """Ask Kafka where every partition's log ends. A checkpoint."""
        tasks = {task.source: task for task in self._tasks()}
        for source, end in (await self._consumer.ends(tasks)).items():
            self.bounds(tasks[source]).end = end

    # What is known. No checkpoints.

    def bounds(self, task: PartitionTask) -> Bounds:
        """What is known of a partition's log; at first, what its take-over found."""
        bounds = self._bounds.setdefault(task, Bounds())
        if task.position is not None:
            found = task.position
            bounds.start = found.start if bounds.start is None else bounds.start
            bounds.end = found.end if bounds.end is None else bounds.end
        return bounds

    def begin(self, task: PartitionTask) -> int | None:
        """The offset at which what waits begins: the watermark, or the log's start if that is above.

        While the take-over lasts it is the group's committed offset; None before that is known.
        """
        watermark, bounds = task.offsets.watermark, self.bounds(task)
        if watermark is None:
            watermark = bounds.group if bounds.group is not None else bounds.start
        return None if watermark is None else max(watermark, bounds.start or 0)

    def message_lag(self, task: PartitionTask) -> int | None:
        """The end of the log minus the offset at which what waits begins; None while unknown.

        0 if Kafka was seen to have no record in between: a log may end in the markers of transactions,
        in aborted records, or in offsets that compaction took.
        """
        begin, end = self.begin(task), self.bounds(task).end
        if begin is None or end is None:
            return None
        seen = self._oldest.get(task)
        if (
            seen is not None
            and seen.begin == begin
            and seen.timestamp is None
            and seen.offset >= end
        ):
            return 0
        return lag_between(begin, end)

    def time_lag(self, task: PartitionTask, now: float) -> float | None:
        """Age in seconds of the oldest record at or above the watermark.

        0 if none waits, or it has no timestamp; None while that is not known: at most for two seconds
        after the partition was assigned, or after it stopped moving, as long as Kafka answers.
        """
        lag = self.message_lag(task)
        if not lag:
            return lag
        stamp = task.offsets.oldest_timestamp
        if stamp is None:
            seen = self._oldest.get(task)
            if seen is not None and seen.begin == self.begin(task):
                stamp = -1 if seen.timestamp is None else seen.timestamp
            elif self._begins.get(task) != self.begin(task):
                stamp = task.offsets.newest_applied_timestamp
        return None if stamp is None else age_of(stamp, now)

    # Asking

    async def _place(self, tasks: Collection[PartitionTask]) -> None:
        """Learn where logs begin, and where the group stands in those that are being taken over."""
        by_source = {task.source: task for task in tasks}
        for source, position in (await self._consumer.try_positions(by_source)).items():
            self._learn(by_source[source], position)

    def _learn(self, task: PartitionTask, position: Position) -> None:
        bounds = self.bounds(task)
        bounds.start, bounds.end = position.start, position.end
        if task.offsets.watermark is None:
            committed = position.committed
            bounds.group = position.reset if committed is None else committed

    def _unsure(self, task: PartitionTask, before: dict[PartitionTask, int | None]) -> bool:
        if task.phase is Phase.OPENING:
            return True
        still = task in before and before[task] == self.begin(task)
        return task.phase is Phase.RUNNING and still and bool(self.message_lag(task))

    def _unread(self, task: PartitionTask) -> bool:
        if task.offsets.oldest_timestamp is not None or not self.message_lag(task):
            return False
        seen = self._oldest.get(task)
        if seen is None or seen.begin != self.begin(task):
            return True
        return seen.timestamp is None and seen.offset < (self.bounds(task).end or 0)

    async def _read(self, tasks: Collection[PartitionTask]) -> None:
        spans = {task.source: (self.begin(task) or 0, self.bounds(task).end or 0) for task in tasks}
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
