"""Records in: what was fetched is decoded, and filed into key channels or passed over.

As much is held as the budget allows: the intake shuts the tap that it is fed from, and opens it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias

from pipeline.consumer.backlog import Backlog
from pipeline.consumer.buffer_budget import BufferBudget, Share
from pipeline.consumer.channels import Channels
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.contracts.log_events import event
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import Decoder
from pipeline.records.record import RawBatch, Record, TopicPartition

log = logging.getLogger(__name__)

RESUMED_AT = 0.5
"""How full a partition that was paused may be when it is resumed."""

Sieve: TypeAlias = Callable[[list[Record]], tuple[list[Record], list[Record]]]
"""Decoded records → those to be filed, and those that another way has: they count as done here.

What is in neither is kept back by whoever sieves, and is not done.
"""


class Tap(Protocol):
    """Where fetched records come from: it can be shut, and opened again. No checkpoints."""

    def pause(self, source: TopicPartition) -> None:
        """Let nothing more come."""

    def resume(self, source: TopicPartition) -> None:
        """Let records come again."""


class Intake:
    """What is held of one way through a partition, up to the channels.

    Args:
        source: the partition.
        tap: what pauses and resumes the fetching.
        channels: where decoded records wait, by key.
        budget: how much may be held.
        metrics: the counters of records.
    """

    def __init__(
        self,
        source: TopicPartition,
        tap: Tap,
        channels: Channels,
        budget: BufferBudget,
        metrics: Metrics,
    ) -> None:
        self.offsets = OffsetTracker(None)
        self.paused = False
        """Whether the fetching is paused: enough is held, or it stands still."""
        self.sieve: Sieve | None = None
        """What divides records between several ways; None where there is one."""
        self._source = source
        self._tap = tap
        self._channels = channels
        self._share = Share(budget)
        self._backlog = Backlog()
        self._decode: Decoder
        self._acknowledged = 0
        self._reapplied = 0
        self._stops = 0
        labels = (source.topic, str(source.partition))
        self._duplicates = metrics.duplicates_skipped.labels(*labels)
        self._reapplied_total = metrics.reapplied.labels(*labels)

    def open(self, decode: Decoder, offsets: OffsetTracker, acknowledged: int) -> None:
        """Begin; see `Writers.run`."""
        self._decode, self.offsets, self._acknowledged = decode, offsets, acknowledged

    def clear(self) -> int:
        """Drop what is not decoded, and say how many records that was."""
        return self._backlog.clear()

    # How much is held

    @property
    def buffered(self) -> int:
        """Records held: not yet decoded, waiting in channels, or in flight."""
        return self._backlog.records + self._channels.waiting + self._channels.in_flight

    @property
    def record_bytes(self) -> float:
        """See `Backlog.record_bytes`."""
        return self._backlog.record_bytes

    @property
    def filling(self) -> bool:
        """Whether at least half is held of what may be, or the tap is shut."""
        return self.paused or self._share.fullness >= RESUMED_AT

    def balance(self, *, still: bool) -> None:
        """Shut the tap when enough is held, open it when half of that is gone.

        That of a way that stands still is shut at once.
        """
        decoded = self._channels.waiting + self._channels.in_flight
        size = self._backlog.bytes + decoded * self._backlog.record_bytes
        self._share.hold(self.buffered, size)
        fullness = self._share.fullness
        if self.paused and fullness <= RESUMED_AT and not still:
            self.paused = False
            self._tap.resume(self._source)
        elif not self.paused and (fullness >= 1.0 or still):
            self.paused = True
            self._tap.pause(self._source)

    def release(self) -> None:
        """Give this part of the common buffer back: the task has ended."""
        self._share.hold(0, 0)

    # Decoding

    def add(self, batches: Sequence[RawBatch]) -> None:
        """Hold what was fetched, which comes after all that was added before."""
        self._backlog.add(batches)

    @property
    def undecoded(self) -> int:
        """How many records could be decoded now; 0 while nothing may be."""
        return 0 if self._stops else self._backlog.records

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Decode nothing while the block runs. May be nested."""
        self._stops += 1
        try:
            yield
        finally:
            self._stops -= 1

    def file(self, limit: int) -> None:
        """Decode so many records, drop what is applied already, file what is this way's.

        Raises:
            PipelineError: they can't be decoded.
            CameBack: the log is not the one that was read before.
        """
        assert not self._stops, "nothing is decoded while the intake is stopped"
        decoded = self._decode(self._source, self._backlog.take(limit))
        fresh = self.offsets.admit(decoded)
        if len(fresh) < len(decoded):
            self._duplicates.inc(len(decoded) - len(fresh))
        if self.sieve is not None:
            fresh, passed = self.sieve(fresh)
            self.offsets.done(passed)
        if self._acknowledged and fresh:
            self._count_reapplied(fresh)
        self._channels.put(fresh)

    def _count_reapplied(self, fresh: Sequence[Record]) -> None:
        """Count, and tell of at the end, what the database had acknowledged and lost."""
        again = sum(record.offset < self._acknowledged for record in fresh)
        self._reapplied += again
        if again:
            self._reapplied_total.inc(again)
        position = self.offsets.position
        if position is not None and position >= self._acknowledged:
            if self._reapplied:
                log.error(
                    "%s: the database came back with fewer commits than it had acknowledged: %d "
                    "records below offset %d are applied again",
                    self._source, self._reapplied, self._acknowledged,
                    extra=event("reapplied", source=self._source, records=self._reapplied,
                                offset=self._acknowledged),
                )  # fmt: skip
            self._acknowledged = 0
