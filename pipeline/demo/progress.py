"""Rates and lags by partition, from what was sent and what the ledgers say."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

import attrs

from pipeline.demo.producer import Producer
from pipeline.demo.reading import Applied
from pipeline.demo.stage import SHARDS

WINDOW_SECONDS = 2.0
"""The time over which a rate is measured."""


@attrs.frozen
class PartitionProgress:
    """A partition's row of the display.

    ``time_lag`` is the age of the oldest record that is not applied, in seconds; ``rate`` is in
    records per second.
    """

    number: int
    shard: str
    owner: str
    sent: int
    applied: int
    time_lag: float
    rate: float

    @property
    def message_lag(self) -> int:
        """How many records are sent and not applied."""
        return max(0, self.sent - self.applied)


@attrs.frozen
class DemoProgress:
    """Everything that is shown at a moment. Rates are in records per second."""

    partitions: tuple[PartitionProgress, ...]
    sent: int
    sent_rate: float

    @property
    def applied(self) -> int:
        """How many records are applied, in all partitions."""
        return sum(partition.applied for partition in self.partitions)

    @property
    def rate(self) -> float:
        """How many records are applied per second, in all partitions."""
        return sum(partition.rate for partition in self.partitions)

    @property
    def message_lag(self) -> int:
        """How many records are sent and not applied, in all partitions."""
        return sum(partition.message_lag for partition in self.partitions)

    @property
    def time_lag(self) -> float:
        """The age of the oldest record that is not applied in any partition, in seconds."""
        return max(partition.time_lag for partition in self.partitions)

    def of_shard(self, shard: str) -> list[PartitionProgress]:
        """Return the partitions of a shard."""
        return [partition for partition in self.partitions if partition.shard == shard]

    def owned_by(self, owner: str) -> list[int]:
        """Return the partitions whose last owner is this instance."""
        return [partition.number for partition in self.partitions if partition.owner == owner]


class Meter:
    """Turns readings into progress; remembers those of the last seconds, for the rates."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._past: deque[tuple[float, int, dict[int, int]]] = deque()

    def measure(self, applied: Mapping[int, Applied]) -> DemoProgress:
        """Return the progress at this moment."""
        now, sent = time.monotonic(), self._producer.sent
        counts = {number: found.count for number, found in applied.items()}
        self._past.append((now, sent, counts))
        while len(self._past) > 2 and self._past[0][0] < now - WINDOW_SECONDS:
            self._past.popleft()
        then, sent_then, counts_then = self._past[0]
        elapsed = max(now - then, 0.001)
        partitions = tuple(
            self._partition(
                shard,
                number,
                applied.get(number, Applied("", 0, 0)),
                (counts.get(number, 0) - counts_then.get(number, 0)) / elapsed,
            )
            for shard, numbers in SHARDS.items()
            for number in numbers
        )
        return DemoProgress(partitions, sent, (sent - sent_then) / elapsed)

    def _partition(
        self, shard: str, number: int, applied: Applied, rate: float
    ) -> PartitionProgress:
        sent_at = self._producer.sent_at[number]
        waiting = applied.watermark < len(sent_at)
        lag = time.monotonic() - sent_at[applied.watermark] if waiting else 0.0
        return PartitionProgress(
            number, shard, applied.owner, len(sent_at), applied.count, lag, rate
        )
