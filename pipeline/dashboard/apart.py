"""Records that are told of apart from their partition: in lanes, under holds, of heavy tenants and keys.

What one instance tells of them, and what a group's instances tell put together. Whose records they are
is said as `pipeline.contracts.rule.briefly` says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from pipeline.contracts.rule import Rule, briefly
from pipeline.contracts.snapshot import LaneSnapshot
from pipeline.contracts.wish import Hold
from pipeline.observe.heavy import Heavy

TOP = 20
"""How many tenants, and keys, are shown of a group."""

MOST_LANES = 100
"""How many lanes are shown of a group: a partition can have dozens, and a page is written each second."""

SUMS = ("recent", "records", "rows", "seconds")

Told = Mapping[str, Any]


def lane_told(found: LaneSnapshot) -> dict[str, Any]:
    """Return what an instance tells of a lane."""
    hold, failure = found.hold, found.failure
    return {
        "number": found.number,
        "records_of": _rule(found.rule),
        "reason": found.reason.value,
        "state": found.state,
        "waiting": found.waiting,
        "time_lag_seconds": found.time_lag,
        "opened_at": found.opened_at,
        "hold": None if hold is None else {"id": hold.id, "by": hold.by},
        "failure": None if failure is None else attrs.asdict(failure),
    }


def hold_told(hold: Hold) -> dict[str, Any]:
    """Return what an instance tells of a hold; its story is by whom, since when, until when, and why."""
    return {
        "id": hold.id, "records_of": _rule(hold.rule), "state": hold.state.value,
        "story": hold.story(),
    }  # fmt: skip


def heavy_told(heavy: Heavy) -> dict[str, Any]:
    """Return what an instance tells of a tenant or a key."""
    return {
        "name": briefly(heavy.name), "recent": heavy.recent, "records": heavy.records,
        "rows": heavy.rows, "seconds": heavy.seconds,
    }  # fmt: skip


def _rule(rule: Rule) -> str:
    return f"{rule.kind} {briefly(rule.value)}"


def lanes_of(partitions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the lanes out of partitions, and return them with theirs; the oldest record first."""
    found: list[dict[str, Any]] = []
    for partition in partitions:
        lanes = partition.pop("lanes", None)
        names = {name: partition.get(name) for name in ("topic", "partition", "owner")}
        found += [
            {**names, **lane}
            for lane in (lanes if isinstance(lanes, list) else ())
            if isinstance(lane, dict)
        ]
    return sorted(found, key=lambda lane: -(lane.get("time_lag_seconds") or 0.0))


def heaviest(told: Iterable[Told], name: str) -> list[dict[str, Any]]:
    """Add up the ``tenants`` or ``keys`` of all instances; return the `TOP` heaviest of late.

    Names are as they are shown: two that differ only where they are cut count as one.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in told:
        for heavy in each[name]:
            whose = str(heavy.get("name"))
            before = found.get(whose, {})
            sums = {part: before.get(part, 0) + (heavy.get(part) or 0) for part in SUMS}
            found[whose] = {"name": whose, **sums}
    return sorted(found.values(), key=lambda heavy: (-heavy["recent"], heavy["name"]))[:TOP]
