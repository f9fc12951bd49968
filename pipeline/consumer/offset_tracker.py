"""Which offsets of a partition are applied, and up to where all of them are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.records.ranges import ranges_of
from pipeline.records.record import Record


class CameBack(Exception):
    """A record below the position came in: the log is not the one that was read before."""


class OffsetTracker:
    """The offsets of one partition in flight, completed in any order, acknowledged in theirs.

    Kafka's offsets have holes (compaction, transaction markers), so the tracker counts the offsets
    that it was shown, never the numbers between them.
    """

    def __init__(self, position: int | None, applied: Iterable[int] = ()) -> None:
        self.position = position
        """The offset after the last record shown; None until one is, where no start is known."""
        self.newest_applied_timestamp: int | None = None
        """Milliseconds; of the record just below the watermark, None where none was applied."""
        self._outstanding: deque[int] = deque()
        self._timestamps: deque[int] = deque()  # of the outstanding, in the same order
        self._completed: set[int] = set()
        self._applied = set(applied)

    @property
    def watermark(self) -> int | None:
        """The lowest offset not yet applied; all below are. None while no position is known."""
        return self._outstanding[0] if self._outstanding else self.position

    @property
    def oldest_timestamp(self) -> int | None:
        """Milliseconds; of the record at the watermark, None where none is outstanding."""
        return self._timestamps[0] if self._timestamps else None

    def completed_ranges(self) -> list[tuple[int, int]]:
        """What is applied above the watermark, as sorted half-open ranges."""
        return ranges_of(self._completed | self._applied)

    def admit(self, records: list[Record]) -> list[Record]:
        """Note records that came in, in offset order; give back those that are not applied yet.

        Raises:
            CameBack: one lies below the position. Nothing is noted.
        """
        if not records:
            return records
        if self.position is not None and records[0].offset < self.position:
            raise CameBack(
                f"offset {records[0].offset} came in, though all below {self.position} had come before"
            )
        self.position = records[-1].offset + 1
        self._outstanding.extend([record.offset for record in records])
        self._timestamps.extend([record.raw.timestamp for record in records])
        return self._without_applied(records) if self._applied else records

    def _without_applied(self, records: list[Record]) -> list[Record]:
        """Records that are applied already are done at once, and stay known until the watermark."""
        fresh = [record for record in records if record.offset not in self._applied]
        self._completed.update({record.offset for record in records} & self._applied)
        assert self.position is not None
        self._applied = {offset for offset in self._applied if offset >= self.position}
        self._advance()
        return fresh

    def done(self, records: Iterable[Record]) -> None:
        """Records were applied. Each must have been admitted, and be done once."""
        offsets = [record.offset for record in records]
        known, before = len(self._completed), self.watermark
        self._completed.update(offsets)
        assert len(self._completed) == known + len(offsets), "an offset is done once"
        self._advance()
        assert len(self._completed) <= len(self._outstanding), "only admitted offsets are done"
        assert before is None or self.watermark is None or self.watermark >= before, (
            "the watermark never falls"
        )

    def _advance(self) -> None:
        outstanding, completed = self._outstanding, self._completed
        timestamps = self._timestamps
        while outstanding and outstanding[0] in completed:
            completed.remove(outstanding.popleft())
            self.newest_applied_timestamp = timestamps.popleft()
