"""A log that repeats itself, condensed: each message once in a while, with how often it came.

While Kafka is away its client tells of every attempt in five ways, dozens of lines a second. What is
told once says as much.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

import attrs

PERIOD_SECONDS = 60.0
MOST_KEPT = 1000
"""Different messages that are remembered: more than a program has."""

_NUMBERS = re.compile(r"\d+")


@attrs.define
class _Told:
    at: float
    left_out: int = 0


class Condense(logging.Filter):
    """Lets a message of one logger and template through once in `period` seconds.

    Messages are alike if their templates differ in numbers only. The next one that is let through says
    how many were left out before it. For a handler: a logger's filter does not see its children's.
    """

    def __init__(
        self,
        *loggers: str,
        period: float = PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``loggers``: the names of those that are condensed, with their children; others pass."""
        super().__init__()
        self._prefixes = tuple(name + "." for name in loggers)
        self._period = period
        self._clock = clock
        self._told: dict[tuple[str, int, str], _Told] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is let through; what was left out is added to its message."""
        if not f"{record.name}.".startswith(self._prefixes):
            return True
        now, template = self._clock(), _NUMBERS.sub("#", str(record.msg))
        key = (record.name, record.levelno, template)
        last = self._told.get(key)
        if last is not None and now < last.at + self._period:
            last.left_out += 1
            return False
        if last is not None and last.left_out:
            text = f"{record.getMessage()} ({last.left_out} more like it in {now - last.at:.0f} s)"
            record.msg, record.args = text, None
        if len(self._told) >= MOST_KEPT:
            self._told.clear()
        self._told[key] = _Told(now)
        return True
