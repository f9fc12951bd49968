"""Where a partition starts when its log is not what the ledger and the group's offset speak of."""

from __future__ import annotations

from uuid import UUID

import pytest

from pipeline.consumer.starting_offset import LogChange, LogEndsBelow, Start, starting_offset
from pipeline.contracts.commit_metadata import LEDGER, ledger
from pipeline.contracts.kafka import Position
from pipeline.contracts.lane import Lane, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.store import AppliedOffsets
from pipeline.errors import PipelineError
from pipeline.records.record import TopicPartition

SOURCE = TopicPartition("orders", 3)
FORMER, TOPIC = UUID(int=1), UUID(int=2)
NOTHING = AppliedOffsets()


def start_of(applied: AppliedOffsets, position: Position, after: LogChange | None = None) -> Start:
    return starting_offset(SOURCE, applied, position, TOPIC, after)


def test_an_offset_that_was_committed_for_a_former_topic_is_none_of_this_one() -> None:
    """The new topic's records below it would never be applied."""
    position = Position(20, ledger(FORMER), 0, 30, reset=30)
    assert start_of(NOTHING, position) == Start(0)


@pytest.mark.parametrize("text", [LEDGER, ledger(TOPIC)])
def test_an_offset_that_was_committed_for_this_topic_is_ours(text: str) -> None:
    applied = AppliedOffsets(12, owned_before=True)
    assert start_of(applied, Position(20, text, 0, 30)) == Start(12, acknowledged=20)


def test_a_topic_made_anew_under_a_running_instance_is_read_from_its_first_record_on() -> None:
    after = LogChange("", made_anew=True)
    assert start_of(NOTHING, Position(20, "", 4, 30, reset=30), after) == Start(4)


def test_what_retention_took_is_counted() -> None:
    assert start_of(AppliedOffsets(5), Position(5, "", 12, 30)) == Start(12, lost=7)


def test_what_lanes_may_answer_for_is_not_called_lost_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A lane tells of what retention took from it; the main way passed over the rest of it."""
    held = Rule("key", "hot")
    lanes = [Lane(1, held, LaneReason.HOLD, 7, 9), Lane(2, held, LaneReason.HOLD, 11)]
    applied, position = AppliedOffsets(5), Position(20, ledger(TOPIC), 15, 30)
    start = starting_offset(SOURCE, applied, position, TOPIC, lanes=lanes)
    assert start == Start(15, acknowledged=20, lost=4)
    told = [message for message in caplog.messages if "deleted" in message]
    assert len(told) == 2
    assert "from offset 5 up to 7" in told[0]
    assert "from offset 9 up to 11" in told[1]


@pytest.mark.parametrize(
    ("applied", "end", "cut"),
    [
        (AppliedOffsets(15), 10, None),
        (AppliedOffsets(15), 40, 10),
        (AppliedOffsets(8, ((12, 15),)), 10, None),
        (AppliedOffsets(8, ((12, 15),)), 40, 10),
    ],
    ids=["shorter", "cut, and longer again", "shorter, above", "cut, above"],
)
def test_a_log_without_what_was_applied_of_it_is_refused_with_the_way_out(
    applied: AppliedOffsets, end: int, cut: int | None
) -> None:
    """New records have the offsets of those that were applied, and would be skipped as known."""
    after = None if cut is None else LogChange("", cut=cut)
    with pytest.raises(LogEndsBelow, match="pipeline rewind --topic orders --partition 3 --to 10"):
        start_of(applied, Position(8, ledger(TOPIC), 0, end), after)


def test_a_log_that_was_cut_above_all_that_was_applied_goes_on() -> None:
    position = Position(8, ledger(TOPIC), 0, 40)
    assert start_of(AppliedOffsets(8), position, LogChange("", cut=10)) == Start(8, acknowledged=8)


def test_without_an_offset_and_a_reset_policy_nothing_starts() -> None:
    with pytest.raises(PipelineError, match="auto_offset_reset is none"):
        start_of(NOTHING, Position(None, "", 0, 30))
