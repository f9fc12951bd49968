"""Percentiles of samples, and what waits."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

import attrs


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the smallest sample that is not below ``share`` of all samples (nearest rank).

    Raises:
        ValueError: there are no samples.
    """
    if not ascending:
        raise ValueError("no samples, no percentile")
    return ascending[max(1, math.ceil(share * len(ascending))) - 1]


@attrs.frozen
class Spread:
    """How samples are distributed, in the unit of the samples."""

    count: int
    p50: float
    p90: float
    p99: float
    highest: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Spread:
        """Describe samples given in any order.

        Raises:
            ValueError: there are no samples.
        """
        ascending = sorted(samples)
        p50, p90, p99 = (percentile(ascending, share) for share in (0.5, 0.9, 0.99))
        return cls(len(ascending), p50, p90, p99, ascending[-1])


def waiting(
    spans: Iterable[tuple[float, float]], times: Iterable[float]
) -> list[tuple[int, float]]:
    """Return message lag and time lag at each time: how many wait, and for how long the oldest has.

    Args:
        spans: of each record since when it waits, and when it is visible.
        times: when to look, in the same unit.
    """
    spans = list(spans)
    in_order = sorted(since for since, _ in spans)
    by_visible = sorted((visible, since) for since, visible in spans)
    visible = [each[0] for each in by_visible]
    # The oldest of those that became visible at this place or later.
    oldest = list(accumulate((since for _, since in reversed(by_visible)), min))[::-1]
    found = []
    for time in times:
        done = bisect_right(visible, time)
        count = max(0, bisect_right(in_order, time) - done)
        age = max(0.0, time - oldest[done]) if count and done < len(oldest) else 0.0
        found.append((count, age))
    return found
