"""How many records a lane has still to read, without reading them."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.records.record import Record


class WaitingCount:
    """What was passed over for a lane, less what it has taken in.

    That is exact for what this owner has passed over. What a former one has, can't be known before it is
    read: it is counted by offsets, so it is too many if others' records lie between.
    """

    def __init__(self) -> None:
        self.oldest: int | None = None
        """Milliseconds; of the first record that was passed over when none was waiting."""
        self._from: int | None = None  # what lies above is counted by the record
        self._start = 0  # what lies below is applied
        self._passed = 0
        self._taken = 0

    def begin(self, start: int, position: int) -> None:
        """The lane is taken over: it reads from ``start`` on, and the main way stands at ``position``."""
        self._start = start
        if self._from is None:
            self._from = position

    def opened(self, from_offset: int, withdrawn: Collection[Record]) -> None:
        """The lane is a new one, which begins with these records."""
        self._from = self._start = from_offset
        self.passed(withdrawn)

    def passed(self, records: Collection[Record]) -> None:
        """Records were passed over for the lane."""
        if self._from is None:
            return
        counted = max(self._from, self._start)
        fresh = [record for record in records if record.offset >= counted]
        if fresh and self._passed == self._taken:
            self.oldest = fresh[0].timestamp
        self._passed += len(fresh)

    def took(self, records: Collection[Record]) -> None:
        """The lane has taken records in."""
        if self._from is not None:
            self._taken += sum(record.offset >= self._from for record in records)

    def lost(self, start: int, end: int) -> int:
        """Kafka has deleted what the lane had still to read; return how many records of it, at most."""
        if self._from is None:
            return end - start
        above = max(0, min(end - max(start, self._from), self._passed - self._taken))
        self._taken += above
        return above + max(0, min(end, self._from) - start)

    def unread(self, read_to: int, position: int) -> int:
        """Return how many records it has still to take in, or a few more."""
        if self._from is None:
            return max(0, position - read_to)
        return max(0, self._passed - self._taken) + max(0, self._from - read_to)
