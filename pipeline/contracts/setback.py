"""What a store could not decide of a batch: records that wait for one that can't be applied now."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pipeline.contracts.lane import LaneReason
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record


@attrs.frozen
class Failure:
    """A record that can't be applied now, and is not given up yet.

    Attributes:
        record: the record.
        why: what it is kept with if it becomes a dead letter.
        seconds: for how long after it failed first it is tried again; then it is given up. None: without
            end.
        reason: `LaneReason.RETRY` if the error may pass by itself, `LaneReason.REJECT` if not.
    """

    record: Record
    why: DeadLetterReason
    seconds: float | None
    reason: LaneReason


@attrs.frozen
class Setback:
    """The part of a batch that is not decided. All else of it is.

    Attributes:
        failures: the records that could not be applied, in the order in which that was found.
        records: those, and what must not be applied before them, in the batch's order.
    """

    failures: Sequence[Failure]
    records: Sequence[Record]

    def decided(self, batch: Sequence[Record]) -> list[Record]:
        """Return the records of the batch that are decided."""
        left = {record.offset for record in self.records}
        return [record for record in batch if record.offset not in left]
