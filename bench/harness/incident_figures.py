"""What is computed from the rows of `bench.incident`, and from what was seen meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs

from bench.harness.figures import percentile, waiting
from bench.harness.sampling import Sessions, within

GRID_SECONDS = 0.25


@attrs.frozen
class Look:
    """What is seen at a moment.

    Attributes:
        cpu, postgres_cpu: seconds that the instance, and Postgres, have used so far.
        busy: connections that the instance uses, by its own gauge; None: it did not answer.
        sessions: what Postgres says of them.
        limit: how many transactions the instance runs at once, at most.
        in_lanes: records that wait in lanes.
        opened: when the oldest lane was opened that is known, since the epoch.
    """

    cpu: float
    postgres_cpu: float
    busy: float | None
    sessions: Sessions
    limit: float | None = None
    in_lanes: float = 0.0
    opened: float | None = None


def figures(
    spans: Sequence[tuple[float, float]],
    looks: Sequence[tuple[float, Look]],
    began: float,
    hot: tuple[float, float],
) -> dict[str, Any]:
    """Return the figures of a way, and its series in seconds since ``began``.

    Args:
        spans: of each of the others' records when it was due and when it was visible, since the epoch.
        looks: what was seen meanwhile.
        began: when the series begin.
        hot: from when to when the hot tenant produced: the figures are of that.
    """
    start, end = hot
    ages = sorted(visible - due for due, visible in spans if start <= due < end)
    last = max(visible for _, visible in spans)
    grid = [began + n * GRID_SECONDS for n in range(int((last - began) / GRID_SECONDS) + 1)]
    lags = [lag for _, lag in waiting(spans, grid)]
    seen = within(looks, start, end)
    busy = [look.busy for look in seen if look.busy is not None]
    first, final = seen[0], seen[-1]
    seconds = (len(seen) - 1) * (looks[-1][0] - looks[0][0]) / (len(looks) - 1)
    opened = min((look.opened for look in seen if look.opened is not None), default=None)
    return {
        "age": _named(ages),
        "time_lag": _named(_between(grid, lags, start, end)),
        "opened": None if opened is None else opened - start,
        "time_lag_until_opened": opened and _named(_between(grid, lags, start, opened)),
        "time_lag_since_opened": opened and _named(_between(grid, lags, opened, end)),
        "cpu": (final.cpu - first.cpu) / seconds,
        "postgres_cpu": (final.postgres_cpu - first.postgres_cpu) / seconds,
        "busy": sum(busy) / len(busy),
        "lock_waits": max(look.sessions.waiting for look in seen),
        "hot": [round(start - began, 2), round(end - began, 2)],
        "series": {
            "time": [round(at - began, 2) for at in grid],
            "time_lag": [round(lag, 3) for lag in lags],
            "looked": [round(at - began, 2) for at, _ in looks[1:]],
            "cpu": _rates(looks, "cpu"),
            "postgres_cpu": _rates(looks, "postgres_cpu"),
            "busy": [look.busy for _, look in looks[1:]],
            "limit": [look.limit for _, look in looks[1:]],
            "in_lanes": [look.in_lanes for _, look in looks[1:]],
        },
    }


def _between(
    times: Sequence[float], values: Sequence[float], start: float, end: float
) -> list[float]:
    return [value for at, value in zip(times, values, strict=True) if start <= at < end]


def _named(samples: Sequence[float]) -> dict[str, float]:
    """Return three figures of samples; there is at least one."""
    ascending = sorted(samples)
    named = {"p50": percentile(ascending, 0.5), "p99": percentile(ascending, 0.99)}
    return {**named, "highest": ascending[-1]}


def _rates(looks: Sequence[tuple[float, Look]], name: str) -> list[float]:
    """Return seconds of CPU per second, between each look and the one before."""
    return [
        round((getattr(new, name) - getattr(old, name)) / (at - before), 3)
        for (before, old), (at, new) in pairwise(looks)
    ]
