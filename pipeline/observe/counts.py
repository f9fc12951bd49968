"""What counters and histograms hold now, for who shows numbers instead of serving them."""

from __future__ import annotations

from prometheus_client import Counter

from pipeline.observe.histogram import Series


def counts_by(counter: Counter, label: str) -> dict[str, int]:
    """Return a counter's values by one of its labels, added up over the others."""
    found: dict[str, int] = {}
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                key = sample.labels[label]
                found[key] = found.get(key, 0) + int(sample.value)
    return found


def count_and_sum(series: Series) -> tuple[int, float]:
    """Return how many values a histogram's series has had, and their sum."""
    counts, total = series.read()
    return counts[-1], total
