"""How the endpoint stands, for the service manager: whether it takes records, and how many."""

from __future__ import annotations

from collections.abc import Callable

import trio

from pipeline.ingest.health import IngestHealth
from pipeline.observe.metrics import Metrics
from pipeline.supervise.rate import Rate


class IngestStanding:
    """The `Standing` of ``pipeline ingest``: it has started when it takes records.

    Args:
        health: whether it does.
        metrics: how many it took.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        health: IngestHealth,
        metrics: Metrics,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.live = health.live
        self._health = health
        self._accepted = metrics.ingest_records.labels(202)
        self._rate = Rate(self._count, clock)

    def _count(self) -> int:
        samples = (each for metric in self._accepted.collect() for each in metric.samples)
        return int(sum(each.value for each in samples if each.name.endswith("_total")))

    def starting(self) -> str | None:
        """Why no records are taken yet; None: they are. Not a checkpoint."""
        return next(iter(self._health.ready()), None)

    def status(self) -> str:
        """Whether records are taken, and how many are accepted. Not a checkpoint."""
        trouble = next(iter(self._health.ready()), None)
        state = "taking records" if trouble is None else f"refusing records: {trouble}"
        return f"{state}; {self._rate.since_last():,.0f} accepted/s"
