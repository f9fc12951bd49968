"""What recurs is told when it begins, and then once per minute, louder: how often, and since when."""

from __future__ import annotations

from collections.abc import Callable

import attrs

AGAIN_SECONDS = 60.0
"""Between two lines about the same."""
FORGET_SECONDS = 300.0
"""What did not recur for so long is new when it comes again."""


@attrs.define
class _Met:
    began: float
    last: float
    told: float
    times: int = 1


class Recurring:
    """Decides when what recurs is told. Nothing here is a checkpoint.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._met: dict[str, _Met] = {}

    def meet(self, what: str) -> str | None:
        """Count it once more.

        Returns an empty text at the first time; once per `AGAIN_SECONDS` how often it came since when;
        and None in between, when it need not be told.
        """
        now = self._clock()
        met = self._met.get(what)
        if met is None or now - met.last > FORGET_SECONDS:
            self._met[what] = _Met(began=now, last=now, told=now)
            return ""
        met.times += 1
        met.last = now
        if now - met.told < AGAIN_SECONDS:
            return None
        met.told = now
        return f"{met.times} times within {now - met.began:.0f} s"
