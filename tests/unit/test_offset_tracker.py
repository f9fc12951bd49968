"""The offset tracker against a naive model, and sets of offsets as ranges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.consumer.offset_tracker import CameBack, OffsetTracker
from pipeline.contracts.store import AppliedOffsets
from pipeline.records.ranges import ranges_of
from tests.support.records import record

offset_sets = st.sets(st.integers(0, 60))


def model_watermark(position: int | None, shown: list[int], applied: set[int]) -> int | None:
    """The lowest offset shown and not applied; where there is none, the one after the last."""
    unapplied = [offset for offset in shown if offset not in applied]
    if unapplied:
        return min(unapplied)
    return shown[-1] + 1 if shown else position


@given(
    data=st.data(),
    start=st.none() | st.integers(0, 10),
    log=st.sets(st.integers(0, 60)).map(sorted),
    applied=offset_sets,
)
def test_tracker_is_the_model(
    data: st.DataObject, start: int | None, log: list[int], applied: set[int]
) -> None:
    log = [offset for offset in log if offset >= (start or 0)]
    applied = {offset for offset in applied if offset >= (start or 0)}
    tracker = OffsetTracker(start, applied)
    shown: list[int] = []
    in_flight: list[int] = []
    known = set(applied)  # what is applied: before this owner, and by it
    assert tracker.watermark == start
    while log or in_flight:
        if log and (not in_flight or data.draw(st.booleans())):
            size = data.draw(st.integers(1, len(log)))
            chunk, log = log[:size], log[size:]
            fresh = tracker.admit([record(offset) for offset in chunk])
            assert [r.offset for r in fresh] == [o for o in chunk if o not in applied]
            shown += chunk
            in_flight += [r.offset for r in fresh]
        else:
            some = data.draw(st.sets(st.sampled_from(in_flight), min_size=1))
            tracker.done([record(offset) for offset in some])
            in_flight = [offset for offset in in_flight if offset not in some]
            known |= some
        watermark = tracker.watermark
        assert watermark == model_watermark(start, shown, known)
        assert not any(o < (watermark or 0) for o in in_flight), "beyond an unapplied offset"
        above = {o for a, b in tracker.completed_ranges() for o in range(a, b)}
        assert above >= {o for o in shown if o in known and o >= (watermark or 0)}
        assert above <= known


def test_a_record_below_the_position_is_an_error() -> None:
    """A topic made anew begins at 0 again: its records were dropped as known, and were lost."""
    tracker = OffsetTracker(5)
    records = [record(offset) for offset in (5, 7)]
    assert tracker.admit(records) == records
    for offset in (7, 0):
        with pytest.raises(CameBack, match=f"offset {offset} came in, though all below 8"):
            tracker.admit([record(offset)])
    assert tracker.position == 8
    assert tracker.admit([]) == []


def test_completed_ranges_are_what_is_above_the_watermark() -> None:
    tracker = OffsetTracker(0)
    records = [record(offset) for offset in range(4)]
    tracker.admit(records)
    tracker.done(records[2:])
    assert (tracker.watermark, tracker.completed_ranges()) == (0, [(2, 4)])
    tracker.done(records[:1])
    assert (tracker.watermark, tracker.completed_ranges()) == (1, [(2, 4)])
    tracker.done(records[1:2])
    assert (tracker.watermark, tracker.completed_ranges()) == (4, [])


@given(offset_sets)
def test_ranges_are_the_offsets(offsets: set[int]) -> None:
    ranges = ranges_of(offsets)
    assert [o for start, end in ranges for o in range(start, end)] == sorted(offsets)
    for (_, end), (start, _) in pairwise(ranges):
        assert end < start, "sorted, and no two touch"
    assert ranges_of(sorted(offsets, reverse=True)) == ranges


@given(offset_sets, st.integers(0, 70))
def test_applied_offsets_are_the_ledgers(offsets: set[int], position: int) -> None:
    applied = AppliedOffsets.from_ranges(ranges_of(offsets), folded=7)
    expected = next(o for o in range(100) if o not in offsets)
    assert applied.watermark == (expected or None)
    assert applied.folded == 7
    above = {o for o in offsets if o >= expected}
    assert applied.offsets_from(position) == {o for o in above if o >= position}


def test_nothing_known_is_applied() -> None:
    assert AppliedOffsets.from_ranges([]) == AppliedOffsets()
    assert AppliedOffsets().offsets_from(0) == set()
