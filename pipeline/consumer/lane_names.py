"""How the log names a lane: whose records it has is told only if an operator named it, or allows to."""

from __future__ import annotations

from typing import Any

from pipeline.contracts.lane import Lane
from pipeline.contracts.rule import shown
from pipeline.records.record import TopicPartition


def lane_name(lane: Lane, *, details: bool) -> str:
    """Return a lane's name for people.

    Args:
        details: whether keys and tenants may be told: ``[errors] details``.
    """
    if lane.hold:
        return f"lane {lane.number} of hold {lane.hold} ({lane.rule})"
    whose = f" of {lane.rule}" if details else f" of one {lane.rule.kind}"
    return f"lane {lane.number}{whose} ({lane.reason.value})"


def lane_fields(source: TopicPartition, lane: Lane, *, details: bool) -> dict[str, Any]:
    """Return a lane's name as fields of an event; see `lane_name`."""
    whose: dict[str, str] = {}
    if lane.hold or details:
        whose[lane.rule.kind] = shown(lane.rule.value)
    return {"source": source, "lane": lane.number, "wish": lane.hold or None, **whose}
