"""Which records that can't be applied wait in a lane, and for how long: ``[errors]`` says so.

By default none does: a refused record is a dead letter at once, and later records of its key go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.contracts.lane import LaneReason
from pipeline.contracts.setback import Failure
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record

HANDLER_RETRY = "HandlerRetry"
"""The name of the error by which a handler asks to be called again."""


def _never(record: Record) -> bool:
    del record
    return False


class RetryPolicy:
    """What is tried again later, in a lane.

    Args:
        seconds: by SQLSTATE, by its first two characters (its class), or `HANDLER_RETRY`: for how long a
            record is tried again.
        hold_key: whether a record that can't be applied is never passed over: its key waits.
        may_wait: whether a record can have a lane. One that can't is treated as by default.
    """

    def __init__(
        self,
        seconds: Mapping[str, float] | None = None,
        *,
        hold_key: bool = False,
        may_wait: Callable[[Record], bool] = _never,
    ) -> None:
        self._seconds = dict(seconds or {})
        self._hold_key = hold_key
        self._may_wait = may_wait

    def ends_handler_retries(self, records: Sequence[Record]) -> bool:
        """Whether what a handler wants to be called for again is to wait in lanes."""
        return HANDLER_RETRY in self._seconds and all(map(self._may_wait, records))

    def failure_of(self, record: Record, why: DeadLetterReason) -> Failure | None:
        """Return how a record that can't be applied is to wait; None: it is a dead letter."""
        seconds = self._seconds_of(why)
        if (seconds is None and not self._hold_key) or not self._may_wait(record):
            return None
        reason = LaneReason.REJECT if seconds is None else LaneReason.RETRY
        return Failure(record, why, None if self._hold_key else seconds, reason)

    def _seconds_of(self, why: DeadLetterReason) -> float | None:
        if why.error == HANDLER_RETRY:
            return self._seconds.get(HANDLER_RETRY)
        state = why.sqlstate or ""
        return self._seconds.get(state, self._seconds.get(state[:2]))
