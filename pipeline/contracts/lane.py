"""A lane: the records of one rule, in a range of offsets of a partition, that go a way of their own."""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum

import attrs

from pipeline.contracts.rule import Rule


class LaneReason(Enum):
    """Why a lane was opened."""

    OVERFLOW = "overflow"
    """Its records filled too much of the partition's buffer."""
    HOLD = "hold"
    """An operator wished so."""
    RETRY = "retry"
    """A record of its key failed with an error that may pass."""
    REJECT = "reject"
    """A record of its key can't be applied, and the key's order is to be kept."""


@attrs.frozen
class LaneFailure:
    """A record that could not be applied, and holds up the lane that it is in.

    Attributes:
        offset: the record's.
        since: when it failed first, in seconds since the epoch.
        why: a sentence.
    """

    offset: int
    since: float
    why: str


@attrs.frozen
class Lane:
    """What a row of ``pipeline.lanes`` says. Frozen: closing a lane makes another object.

    Attributes:
        number: unlike that of any other lane that the partition ever had; a lane opened later has a
            larger one.
        rule: whose records.
        reason: why it was opened.
        from_offset: the first offset that it may answer for.
        until_offset: the offset after the last one; None while it is open.
        left_out: ranges, half-open, sorted, from ``from_offset`` on, that stay with the main way.
        hold: the id of the operator's wish; empty if it was opened for another reason.
        opened_at: seconds since the epoch.
        failure: what holds it up, as far as that was noted; it may be mended by now.
    """

    number: int
    rule: Rule
    reason: LaneReason
    from_offset: int
    until_offset: int | None = None
    left_out: tuple[tuple[int, int], ...] = ()
    hold: str = ""
    opened_at: float = 0.0
    failure: LaneFailure | None = None

    def covers(self, offset: int) -> bool:
        """Whether a record of the rule at this offset is the lane's."""
        if offset < self.from_offset:
            return False
        if self.until_offset is not None and offset >= self.until_offset:
            return False
        place = bisect_right(self.left_out, (offset, _BEYOND)) - 1
        return place < 0 or offset >= self.left_out[place][1]

    @property
    def clear_from(self) -> int:
        """From this offset on every record of the rule is the lane's, until it ends."""
        return max(self.from_offset, self.left_out[-1][1] if self.left_out else 0)


_BEYOND = 1 << 63
