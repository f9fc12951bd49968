"""What was fetched of one partition and is not decoded yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pipeline.records import RawBatch, RawRecord


class Backlog:
    """Fetched batches in offset order, given out as records, as many as are asked for.

    Batches stay as they were fetched for as long as possible: they take a fifth of the memory of
    their records, and records that were just decoded are still in the processor's caches when they
    are filed and taken.
    """

    def __init__(self) -> None:
        self.records = 0
        """How many records wait here, or a few more: a batch says what it holds at most."""
        self._batches: deque[RawBatch] = deque()
        self._open: Sequence[RawRecord] = ()  # what is left of the batches that were decoded

    def add(self, batches: Sequence[RawBatch]) -> None:
        """Batches that come after all that were added before."""
        self._batches.extend(batches)
        self.records += sum(map(len, batches))

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
            opened += records
        taken, self._open = opened[:limit], opened[limit:]
        self.records -= len(taken)
        return taken

    def clear(self) -> int:
        """Drop everything, and say how many records that was."""
        dropped, self.records = self.records, 0
        self._batches.clear()
        self._open = ()
        return dropped
