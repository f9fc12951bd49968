"""What the server counts, and how it tells of what it refuses without flooding the log."""

from __future__ import annotations

import logging
from collections import Counter

from attrs import define, field

log = logging.getLogger(__name__)

SUMMARY_SECONDS = 60.0


@define
class Tally:
    """Counts since the start.

    The first refusal of a kind is a line in the log at once; what follows is summed up, a line a
    minute.

    Attributes:
        accepted: connections.
        requests: handed to the application.
        failed: of these, those that it failed.
        cut_off: of these, those that were cancelled, by a drain's deadline or with the server.
        refusals: how often what was refused or cut off, by reason.
    """

    accepted: int = 0
    requests: int = 0
    failed: int = 0
    cut_off: int = 0
    refusals: Counter[str] = field(factory=Counter)
    _untold: Counter[str] = field(factory=Counter, init=False)
    _summary_due: float = field(default=0.0, init=False)

    def refused(self, reason: str, detail: str) -> None:
        """Count what was refused or cut off, and tell of the first of its kind. Not a checkpoint."""
        self.refusals[reason] += 1
        if self.refusals[reason] == 1:
            log.warning(
                "refused: %s: %s; further ones are summed up, a line a minute", reason, detail
            )
        else:
            self._untold[reason] += 1

    def sum_up(self, now: float, *, last: bool = False) -> None:
        """Tell what has been refused since the line before, if a minute has passed or it is the end."""
        if not self._untold or (now < self._summary_due and not last):
            return
        self._summary_due = now + SUMMARY_SECONDS
        told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self._untold.items()))
        log.warning("refused since the line before: %s", told)
        self._untold.clear()
