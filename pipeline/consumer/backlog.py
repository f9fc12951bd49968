"""What was fetched of one partition and is not decoded yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pipeline.records.record import RawBatch, RawRecord

SAMPLED = 8
"""One record in so many is weighed: enough to know what the others weigh, and costs nothing."""

FORGETTING = 0.9


class Backlog:
    """Fetched batches in offset order, given out as records, as many as are asked for.

    Batches stay as they were fetched for as long as possible: they take a fifth of the memory of
    their records, and records that were just decoded are still in the processor's caches when they
    are filed and taken.
    """

    def __init__(self) -> None:
        self.records = 0
        """How many records wait here, or a few more: a batch says what it holds at most."""
        self.record_bytes = 0.0
        """Bytes of a decoded record's value, by those decoded lately; 0 before the first."""
        self._fetched = 0  # bytes, of the batches as they are
        self._batches: deque[RawBatch] = deque()
        self._open: Sequence[RawRecord] = ()  # what is left of the batches that were decoded

    @property
    def bytes(self) -> float:
        """How many bytes wait here."""
        return self._fetched + len(self._open) * self.record_bytes

    def add(self, batches: Sequence[RawBatch]) -> None:
        """Batches that come after all that were added before."""
        self._batches.extend(batches)
        self.records += sum(map(len, batches))
        self._fetched += sum(batch.size for batch in batches)

    def take(self, limit: int) -> Sequence[RawRecord]:
        """At most ``limit`` records; none only where none is left.

        Raises:
            PipelineError: a batch can't be decoded.
        """
        opened = list(self._open)
        while self._batches and len(opened) < limit:
            batch = self._batches.popleft()
            records = batch.records()
            self.records += len(records) - len(batch)
            self._fetched -= batch.size
            self._weigh(records[::SAMPLED])
            opened += records
        taken, self._open = opened[:limit], opened[limit:]
        self.records -= len(taken)
        return taken

    def _weigh(self, sample: Sequence[RawRecord]) -> None:
        """Large records are believed at once, small ones only after a while: this bounds memory."""
        if sample:
            mean = sum(len(record.value or b"") for record in sample) / len(sample)
            self.record_bytes = max(mean, self.record_bytes * FORGETTING)

    def clear(self) -> int:
        """Drop everything, and say how many records that was."""
        dropped, self.records = self.records, 0
        self._batches.clear()
        self._fetched = 0
        self._open = ()
        return dropped
