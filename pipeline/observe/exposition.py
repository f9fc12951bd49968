"""What a scrape gives: the sources run, then every metric of a registry as text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class Exposition:
    """A registry, and the sources that set its gauges. Nothing here checkpoints.

    Attributes:
        registry: where metrics are registered; it is this one's own, nothing is global.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sources: list[Callable[[], None]] = []

    def add_source(self, source: Callable[[], None]) -> None:
        """Call ``source`` before each scrape, to set gauges. It must not block or checkpoint.

        One that raises is logged, and the scrape goes on without it.
        """
        self._sources.append(source)

    def remove_source(self, source: Callable[[], None]) -> None:
        """Undo `add_source`; ``ValueError`` where it was never added."""
        self._sources.remove(source)

    def render(self) -> bytes:
        """Run the sources, then give everything as Prometheus text, version 0.0.4."""
        for source in list(self._sources):
            try:
                source()
            except Exception:  # told; the other metrics must be seen just then
                log.exception("a source of metrics failed: %r", source)
        return generate_latest(_WithoutCreated(self.registry))


class _WithoutCreated(Collector):
    """Leaves out when each counter was made: a second series for each, and nobody asks for it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
