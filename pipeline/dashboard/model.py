"""What this instance does, as one JSON-ready document, with an hour of history.

It reads the same snapshots as the gauges do, once every `SAMPLE_SECONDS`, and nothing on the way of a
record.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

import attrs
import trio

from pipeline.contracts.snapshot import PartitionSnapshot, ShardSnapshot

SAMPLE_SECONDS = 5.0
HISTORY_SECONDS = 3600.0
MAX_CHANGES = 100
"""How many changes of the assignment are kept for the timeline."""


@attrs.frozen
class Sample:
    """All partitions at one moment: ``at`` in seconds since the epoch; None is not known."""

    at: float
    rate: float | None
    message_lag: int | None
    time_lag: float | None


class DashboardModel:
    """Collects the history, and says how things are now.

    Args:
        name: of the pipeline.
        group: the consumer group.
        partitions: the assigned partitions as they are now.
        shards: the shards as they are now.
        applied: how many records this instance has applied since it started.
        clock: the wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        group: str,
        partitions: Callable[[], Collection[PartitionSnapshot]],
        shards: Callable[[], Iterable[ShardSnapshot]],
        applied: Callable[[], int],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._group = group
        self._partitions = partitions
        self._shards = shards
        self._applied = applied
        self._clock = clock
        self._history: deque[Sample] = deque(maxlen=int(HISTORY_SECONDS / SAMPLE_SECONDS))
        self._changes: deque[dict[str, Any]] = deque(maxlen=MAX_CHANGES)
        self._before: tuple[float, int] | None = None
        self._assigned: dict[str, int] = {}

    async def run(self) -> None:
        """Take a sample every `SAMPLE_SECONDS` until cancelled."""
        while True:
            self.sample()
            await trio.sleep(SAMPLE_SECONDS)

    def sample(self) -> None:
        """Add this moment to the history. Not a checkpoint."""
        now, applied, found = self._clock(), self._applied(), list(self._partitions())
        rate = None
        if self._before is not None and now > self._before[0]:
            rate = (applied - self._before[1]) / (now - self._before[0])
        self._before = (now, applied)
        messages, age = totals(found)
        self._history.append(Sample(now, rate, messages, age))
        self._note_changes(found, now)

    def _note_changes(self, found: Iterable[PartitionSnapshot], now: float) -> None:
        assigned = {str(each.source): each.assignment_id for each in found}
        gained = sorted(key for key, value in assigned.items() if self._assigned.get(key) != value)
        lost = sorted(key for key, value in self._assigned.items() if assigned.get(key) != value)
        if gained or lost:
            self._changes.append({"at": now, "gained": gained, "lost": lost})
        self._assigned = assigned

    def state(self) -> dict[str, Any]:
        """Return how things are now, ready for JSON; seconds and records. Not a checkpoint."""
        found = sorted(self._partitions(), key=lambda each: each.source)
        messages, age = totals(found)
        return {
            "name": self._name,
            "group": self._group,
            "at": self._clock(),
            "rate": self._history[-1].rate if self._history else None,
            "message_lag": messages,
            "time_lag_seconds": age,
            "partitions": [_partition(each) for each in found],
            "shards": [_shard(each) for each in self._shards()],
        }

    def past(self) -> dict[str, Any]:
        """Return the history and the changes of the assignment, oldest first. Not a checkpoint."""
        return {
            "samples": [attrs.astuple(each) for each in self._history],
            "changes": list(self._changes),
        }


def totals(found: Collection[PartitionSnapshot]) -> tuple[int | None, float | None]:
    """The messages of all, and the age of the oldest; None where a partition's is not known yet.

    As ``pipeline lag`` adds them up.
    """
    messages = [each.message_lag for each in found if each.message_lag is not None]
    ages = [each.time_lag for each in found if each.time_lag is not None]
    return (
        sum(messages) if len(messages) == len(found) else None,
        max(ages, default=0.0) if len(ages) == len(found) else None,
    )


def _partition(found: PartitionSnapshot) -> dict[str, Any]:
    return {
        "topic": found.source.topic,
        "partition": found.source.partition,
        "state": found.phase.value,
        "state_seconds": found.phase_seconds,
        "watermark": found.watermark,
        "message_lag": found.message_lag,
        "time_lag_seconds": found.time_lag,
        "buffered": found.buffered,
        "answers": found.answers,
        "paused": None if found.pause is None else found.pause.story(),
        "waits_for": found.waits_for,
    }


def _shard(found: ShardSnapshot) -> dict[str, Any]:
    return {
        "shard": found.name,
        "state": found.state.name.lower().replace("_", "-"),
        "limit": found.limit,
        "in_flight": found.in_flight,
        "busy": found.busy,
        "trouble": found.trouble,
    }
