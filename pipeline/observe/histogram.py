"""A Prometheus histogram that takes a whole batch of values at once.

The one in ``prometheus_client`` takes a value a call, walks the buckets in Python and locks twice:
1.3 to 1.9 µs a value, where a record's whole way through its key channel may cost 1. A batch is
sorted here and cut at the bucket bounds by bisection: 0.01 µs a value where they come nearly sorted,
as record times do, and 0.06 to 0.12 where they come in no order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from threading import Lock

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Series:
    """The buckets of one set of label values. Never checkpoints; any thread may call it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = Lock()

    def observe(self, value: float) -> None:
        """Add one value; below 0 counts as 0."""
        value = max(value, 0.0)
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def observe_many(self, values: Iterable[float]) -> None:
        """Add values in any order (the nearer to sorted, the cheaper); below 0 counts as 0.

        A producer's clock may be ahead of ours, and a sum that falls looks like a restart.
        """
        ordered = sorted(values)
        if not ordered:
            return
        if ordered[0] < 0:
            ordered = [max(value, 0.0) for value in ordered]
        with self._lock:
            self._sum += sum(ordered)
            start, count = 0, len(ordered)
            for bucket in range(bisect_left(self._bounds, ordered[0]), len(self._bounds)):
                end = bisect_right(ordered, self._bounds[bucket], start)
                self._counts[bucket] += end - start
                start = end
                if start == count:
                    return
            self._counts[-1] += count - start

    def observe_ages(self, stamps: list[int], now: float) -> None:
        """Add the ages, at ``now`` in seconds since the epoch, of timestamps in milliseconds.

        As `observe_many` of the ages, without making them: the bounds become timestamps instead.
        A timestamp below 0, which is none, counts as an age of 0.
        """
        newest = int(now * 1000)
        ordered = sorted(stamps)
        if not ordered:
            return
        if ordered[0] < 0 or ordered[-1] > newest:
            ordered = sorted([newest if not 0 <= stamp < newest else stamp for stamp in stamps])
        with self._lock:
            self._sum += (newest * len(ordered) - sum(ordered)) / 1000
            end = len(ordered)
            for bucket, bound in enumerate(self._bounds):
                start = bisect_left(ordered, newest - bound * 1000, 0, end)
                self._counts[bucket] += end - start
                end = start
                if not end:
                    return
            self._counts[-1] += end

    def read(self) -> tuple[list[int], float]:
        """How many values lie at or below each bound (last, all of them), and the sum."""
        with self._lock:
            return list(accumulate(self._counts)), self._sum


class Histogram(Collector):
    """A family of series by label values, with ``labels`` as in ``prometheus_client``.

    Without label names it is one series itself, shown from the start.

    Raises:
        ValueError: bounds that do not grow, label values that do not fit the names.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._bounds = [float(bound) for bound in buckets]
        if not self._bounds or self._bounds != sorted(set(self._bounds)):
            raise ValueError(f"the bucket bounds of {name} must grow: {list(buckets)}")
        self._name = name
        self._documentation = documentation
        self._labelnames = tuple(labelnames)
        self._series: dict[tuple[str, ...], Series] = {}
        if not self._labelnames:
            self.labels()
        registry.register(self)

    def labels(self, *values: object) -> Series:
        """The series of these label values, made at its first mention."""
        key = tuple(map(str, values))
        if len(key) != len(self._labelnames):
            raise ValueError(f"{self._name} has labels {self._labelnames}, not {len(key)} values")
        found = self._series.get(key)
        return found if found is not None else self._series.setdefault(key, Series(self._bounds))

    def observe(self, value: float) -> None:
        """Add one value to a histogram without labels."""
        self.labels().observe(value)

    def observe_many(self, values: Iterable[float]) -> None:
        """Add values to a histogram without labels: `Series.observe_many`."""
        self.labels().observe_many(values)

    def observe_ages(self, stamps: list[int], now: float) -> None:
        """Add the ages of timestamps to a histogram without labels: `Series.observe_ages`."""
        self.labels().observe_ages(stamps, now)

    def describe(self) -> list[HistogramMetricFamily]:
        """The family without its series: the registry asks for the names it takes."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)]

    def collect(self) -> list[HistogramMetricFamily]:
        """The family as it is now."""
        (family,) = self.describe()
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for key, series in list(self._series.items()):
            counts, total = series.read()
            family.add_metric(key, list(zip(bounds, counts, strict=True)), total)
        return [family]
