"""How a metric is declared: once, with its type, so that code, scrape and document agree.

A `Definition` is a descriptor. On the class it gives itself (the document is written from it), and
to the type checker it says what an instance holds: ``metrics.message_lag`` is a ``Gauge`` to mypy,
and a misspelt name is an error. At run time the instance's own attribute comes first, so that
reading it costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Literal, TypeVar, overload

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge

from pipeline.observe.histogram import Histogram

M = TypeVar("M", Counter, Gauge, Histogram)


@attrs.frozen
class Definition(Generic[M]):
    """One metric.

    Attributes:
        name: as Prometheus shows it.
        kind: what Prometheus takes it for.
        labels: names of its labels, in the order of ``labels(…)``.
        meaning: one sentence; it is the metric's HELP too.
        action: what to do, or to look at next, when it moves.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    action: str
    _make: Callable[..., M]

    def make(self, registry: CollectorRegistry) -> M:
        """The metric itself, registered."""
        return self._make(self.name, self.meaning, self.labels, registry=registry)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Definition[M]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> M: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> Definition[M] | M:
        if instance is None:
            return self
        raise AttributeError(f"{self.name} is not made yet")


def gauge(name: str, labels: tuple[str, ...], meaning: str, action: str) -> Definition[Gauge]:
    """Declare a value that goes up and down."""
    return Definition(name, "gauge", labels, meaning, action, Gauge)


def counter(name: str, labels: tuple[str, ...], meaning: str, action: str) -> Definition[Counter]:
    """Declare a count since the start; its name ends in ``_total``."""
    return Definition(name, "counter", labels, meaning, action, Counter)


def histogram(
    name: str, labels: tuple[str, ...], buckets: Sequence[float], meaning: str, action: str
) -> Definition[Histogram]:
    """Declare a distribution; the buckets are upper bounds, inclusive."""
    make = partial(Histogram, buckets=buckets)
    return Definition(name, "histogram", labels, meaning, action, make)
