"""How many records a lane has still to read, without reading them."""

from __future__ import annotations

from pipeline.consumer.waiting_count import WaitingCount
from pipeline.records.ranges import outside
from pipeline.records.record import Record
from tests.support.records import SOURCE, Raw, record


def records(*offsets: int) -> list[Record]:
    return [record(offset) for offset in offsets]


def at(offset: int, timestamp: int) -> Record:
    return Record(SOURCE, offset, Raw(offset, timestamp=timestamp), None, None)


def test_what_this_owner_passed_over_is_counted_by_the_record() -> None:
    count = WaitingCount()
    count.opened(10, records(10, 15))
    count.begin(10, 40)
    count.passed(records(41))
    assert count.unread(10, 60) == 3
    count.took(records(10, 15))
    assert count.unread(40, 60) == 1


def test_what_a_former_owner_passed_over_is_counted_by_offsets() -> None:
    count = WaitingCount()
    assert count.unread(10, 30) == 20
    count.begin(12, 30)
    count.passed(records(30, 31))
    assert count.unread(12, 40) == 20
    count.took(records(20))
    assert count.unread(30, 40) == 2


def test_what_a_lane_has_applied_already_is_not_counted_when_it_is_passed_over_again() -> None:
    count = WaitingCount()
    count.begin(50, 20)
    count.passed(records(21, 49, 50))
    assert count.unread(50, 60) == 1


def test_what_is_lost_is_not_waited_for_any_more() -> None:
    count = WaitingCount()
    count.opened(10, records(10, 15))
    count.begin(10, 40)
    assert count.lost(10, 12) == 2, "one of them may be another's"
    assert count.unread(12, 40) == 0
    assert count.lost(12, 30) == 0


def test_the_oldest_is_the_first_that_came_when_none_waited() -> None:
    count = WaitingCount()
    count.opened(0, [])
    first, second = at(1, 5), at(2, 6)
    count.passed([first])
    count.passed([second])
    assert count.oldest == 5
    count.took([first, second])
    count.passed([at(3, 9)])
    assert count.oldest == 9


def test_what_lies_outside_of_ranges_is_found() -> None:
    assert outside(0, 10, []) == [(0, 10)]
    assert outside(0, 10, [(2, 4), (3, 5), (8, None)]) == [(0, 2), (5, 8)]
    assert outside(5, 10, [(0, 6), (20, 30)]) == [(6, 10)]
    assert outside(5, 5, [(7, 8)]) == []
