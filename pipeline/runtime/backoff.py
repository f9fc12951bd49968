"""How long to wait between attempts."""

from __future__ import annotations

import random

import attrs


@attrs.frozen
class Backoff:
    """Waits between attempts: doubled each time, capped, with half of each random.

    The jitter keeps instances that failed together from coming back together (Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Attributes:
        initial: the first wait's upper bound, in seconds.
        longest: the upper bound of all waits, in seconds.
    """

    initial: float = 0.1
    longest: float = 10.0

    def seconds(self, attempt: int) -> float:
        """Return how long to wait after attempt number ``attempt``, which counts from 0."""
        ceiling = min(self.longest, self.initial * 2.0 ** min(attempt, 30))
        return ceiling * (0.5 + random.random() / 2)
