"""What this process uses, and which version it is, as metrics."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from pipeline.observe.metrics import Metrics

STATM = Path("/proc/self/statm")


DISTRIBUTION = "kafka-to-postgres"


def installed_version() -> str:
    """Return the version that is installed; ``unknown`` where only the files are there."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not tell it."""
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def process_source(
    metrics: Metrics,
    clock: Callable[[], float] = time.process_time,
    resident: Callable[[], int] = resident_bytes,
) -> Callable[[], None]:
    """Return a source of metrics that tells what the process has used since the last scrape.

    Args:
        metrics: where it is set.
        clock: seconds of CPU that the process has used, in user and system mode, by all its threads.
        resident: bytes of memory that it has now.
    """
    counted = 0.0
    metrics.build_info.labels(installed_version()).set(1)

    def count() -> None:
        nonlocal counted
        used = clock()
        metrics.cpu_seconds.inc(max(0.0, used - counted))
        counted = used
        metrics.memory_bytes.set(resident())

    return count
