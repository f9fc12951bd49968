"""What is computed from the requests of a run and the rows that they left."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from bench.harness.figures import percentile, waiting
from bench.harness.open_loop import Shot
from bench.sync_async.watching import Look
from bench.sync_async.world import Write

GRID_SECONDS = 0.5


@attrs.frozen
class Run:
    """What was seen of a run. All times are seconds since its first request was due.

    Attributes:
        shots: the requests, in order.
        writes: the rows.
        effects: how often a write was added to a total.
        looks: what was seen meanwhile.
        span: when something happened: from, to.
        others: which requests are not the hot tenant's; None: there is none.
    """

    shots: Sequence[Shot]
    writes: Sequence[Write]
    effects: int
    looks: Sequence[Look]
    span: tuple[float, float]
    others: frozenset[int] | None = None


def percentiles(samples: Iterable[float], *shares: float) -> list[float | None]:
    """Return percentiles; None if there are no samples."""
    ascending = sorted(samples)
    return [percentile(ascending, share) if ascending else None for share in shares]


def summary(run: Run) -> dict[str, Any]:
    """Return the figures of the table: those of requests that were due while something happened."""
    first, after = run.span
    meanwhile = [shot for shot in run.shots if first <= shot.due < after]
    found: dict[str, Any] = {
        "requests": len(meanwhile),
        "errors": 1 - sum(shot.good for shot in meanwhile) / len(meanwhile),
        "errors_all": 1 - sum(shot.good for shot in run.shots) / len(run.shots),
        "statuses": dict(Counter(str(shot.status) for shot in meanwhile)),
        "http": _named(shot.latency for shot in meanwhile),
        "served": _named(shot.latency for shot in meanwhile if shot.good),
    }
    if run.others is not None:
        others = [shot for shot in meanwhile if shot.number in run.others]
        found["others"] = _named(shot.latency for shot in others)
        found["others_errors"] = 1 - sum(shot.good for shot in others) / len(others)
    return {**found, **_written(run, meanwhile), **_highest(run)}


def _named(samples: Iterable[float]) -> dict[str, float | None]:
    found = percentiles(samples, 0.5, 0.99, 0.999, 1.0)
    return dict(zip(("p50", "p99", "p999", "highest"), found, strict=True))


def _written(run: Run, meanwhile: Sequence[Shot]) -> dict[str, Any]:
    """Return what became of the writes: when they were visible, and whether all are there once."""
    rows = Counter(write.number for write in run.writes)
    by_number = {write.number: write for write in run.writes}
    good = {shot.number for shot in run.shots if shot.good}
    numbers = {shot.number for shot in meanwhile}
    delays = [
        max(0.0, write.visible - write.queued)
        for write in run.writes
        if write.queued is not None and write.number in numbers
    ]
    due_to_visible = [
        by_number[shot.number].visible - shot.due
        for shot in meanwhile
        if shot.good and shot.number in by_number
    ]
    return {
        "accepted_to_visible": _named(delays) if delays else None,
        "due_to_visible": _named(due_to_visible),
        "lost": len(good - rows.keys()),
        "doubled": sum(rows.values()) - len(rows) + abs(run.effects - sum(rows.values())),
        "refused_yet_written": len(rows.keys() - good),
    }


def _highest(run: Run) -> dict[str, Any]:
    looks = run.looks

    def most(name: str) -> float | None:
        return max(
            (value for look in looks if (value := getattr(look, name)) is not None), default=None
        )

    lags = lag(run.writes, grid(run))
    under_way = in_flight(run.shots, grid(run))
    return {
        "message_lag": max((each[0] for each in lags), default=0),
        "time_lag": max((each[1] for each in lags), default=0.0),
        "in_flight": max(under_way, default=0),
        "message_lag_gauge": most("message_lag"),
        "time_lag_gauge": most("time_lag"),
        "connections": most("connections"),
        "lock_waits": most("lock_waits"),
        "caught_up": caught_up(run),
    }


def grid(run: Run) -> list[float]:
    """Return the times that series have a value at: from the first request to the last row or answer."""
    last = max([shot.ended for shot in run.shots] + [write.visible for write in run.writes])
    return [number * GRID_SECONDS for number in range(math.ceil(last / GRID_SECONDS) + 1)]


def lag(writes: Iterable[Write], times: Iterable[float]) -> list[tuple[int, float]]:
    """Return message lag and time lag at each time: queued and not yet visible, and for how long.

    Rows that were never queued, as their request wrote them itself, don't count.
    """
    return waiting(
        ((write.queued, write.visible) for write in writes if write.queued is not None), times
    )


def in_flight(shots: Iterable[Shot], times: Iterable[float]) -> list[int]:
    """Return how many requests were due and had no answer at each time."""
    shots = list(shots)
    dues = sorted(shot.due for shot in shots)
    ends = sorted(shot.ended for shot in shots)
    return [bisect_right(dues, time) - bisect_right(ends, time) for time in times]


def caught_up(run: Run) -> float | None:
    """Return how long after the end of what happened everything that was accepted before is visible.

    Seconds; None if nothing was queued until then.
    """
    _, after = run.span
    waited = [
        write.visible for write in run.writes if write.queued is not None and write.queued < after
    ]
    return max(0.0, max(waited) - after) if waited else None


def over_time(run: Run) -> dict[str, list[Any]]:
    """Return series: HTTP by the second in which requests were due, the rest every `GRID_SECONDS`."""
    seconds: dict[int, list[Shot]] = {}
    for shot in run.shots:
        seconds.setdefault(int(shot.due), []).append(shot)
    times = grid(run)
    lags = lag(run.writes, times)
    return {
        "second": list(seconds),
        "p99": [percentile(sorted(s.latency for s in of), 0.99) for of in seconds.values()],
        "errors": [sum(not s.good for s in of) / len(of) for of in seconds.values()],
        "time": times,
        "in_flight": in_flight(run.shots, times),
        "message_lag": [count for count, _ in lags],
        "time_lag": [age for _, age in lags],
        "looked": [look.at for look in run.looks],
        "connections": [look.connections for look in run.looks],
        "active": [look.active for look in run.looks],
        "lock_waits": [look.lock_waits for look in run.looks],
        "gauge": [look.time_lag for look in run.looks],
    }


def rounded(value: Any) -> Any:
    """Round all numbers of a JSON value to what can have been measured: 0.1 ms."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value
