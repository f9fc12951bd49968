"""Percentiles of samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

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
