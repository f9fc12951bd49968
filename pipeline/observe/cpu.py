"""The CPU time of this process, as a metric."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.observe.metrics import Metrics


def cpu_source(
    metrics: Metrics, clock: Callable[[], float] = time.process_time
) -> Callable[[], None]:
    """Return a source of metrics that counts what the process has used since the last scrape.

    Args:
        metrics: whose counter it is.
        clock: seconds of CPU that the process has used, in user and system mode, by all its threads.
    """
    counted = 0.0

    def count() -> None:
        nonlocal counted
        used = clock()
        metrics.cpu_seconds.inc(max(0.0, used - counted))
        counted = used

    return count
