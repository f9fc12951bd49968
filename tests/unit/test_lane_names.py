"""Whose records a lane has is in the log only if an operator named it, or allows to."""

from __future__ import annotations

import attrs
import pytest

from pipeline.consumer.lane_names import lane_fields, lane_name
from pipeline.contracts.lane import Lane, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.records.record import TopicPartition

SOURCE = TopicPartition("orders", 3)
OVERFLOW = Lane(number=2, rule=Rule("tenant", "app-7"), reason=LaneReason.OVERFLOW, from_offset=0)
HELD = attrs.evolve(OVERFLOW, reason=LaneReason.HOLD, hold="h1")


@pytest.mark.parametrize(
    ("lane", "details", "name"),
    [
        (OVERFLOW, False, "lane 2 of one tenant (overflow)"),
        (OVERFLOW, True, "lane 2 of tenant app-7 (overflow)"),
        (HELD, False, "lane 2 of hold h1 (tenant app-7)"),
    ],
)
def test_a_lane_is_named_without_whose_it_is_unless_that_may_be_told(
    lane: Lane, details: bool, name: str
) -> None:
    fields = lane_fields(SOURCE, lane, details=details)
    assert lane_name(lane, details=details) == name
    assert fields.get("tenant") == ("app-7" if "app-7" in name else None)
    assert (fields["lane"], fields["wish"]) == (2, lane.hold or None)
