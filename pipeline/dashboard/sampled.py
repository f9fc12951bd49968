"""What counts and histograms have grown by, from one sample to the next."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.observe.counts import count_and_sum
from pipeline.observe.histogram import Series


class SampledRate:
    """What a count has grown by per second, from one sample to the next."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._before: tuple[float, int] | None = None

    def at(self, now: float) -> float | None:
        """Return it; None for the first sample."""
        count, before = self._count(), self._before
        self._before = (now, count)
        if before is None or now <= before[0]:
            return None
        return (count - before[1]) / (now - before[0])


class SampledMean:
    """What a histogram's series got between the two newest samples, or since this was made.

    Attributes:
        count: how many values.
    """

    def __init__(self, series: Series) -> None:
        self.count = 0
        self._sum = 0.0
        self._series = series
        self._before = count_and_sum(series)

    def sample(self) -> None:
        """Look at the series."""
        count, total = count_and_sum(self._series)
        self.count, self._sum = count - self._before[0], total - self._before[1]
        self._before = (count, total)

    @property
    def mean(self) -> float | None:
        """The mean of these values; None if there are none."""
        return self._sum / self.count if self.count else None


def weighted_mean(values: list[tuple[int, float | None]]) -> tuple[int, float | None]:
    """Put means together; each comes with how many values it is of. None is the mean of none."""
    known = [(count, mean) for count, mean in values if count and mean is not None]
    count = sum(count for count, _ in known)
    return count, sum(count * mean for count, mean in known) / count if count else None
