"""The hand-over bench: how long partitions stood still, and what the others kept."""

from __future__ import annotations

import pytest

from bench.handover import MemberChange, figures, goals, table
from bench.harness.silence import Commit, Commits, Idle, idle, in_time, longest, rate


def steady(start: float, end: float, every: float = 0.05, records: int = 5) -> list[Commit]:
    """A hundred records a second, as they are by default."""
    count = round((end - start) / every)
    return [Commit(start + every * (n + 0.5), records) for n in range(count)]


def test_a_partition_is_idle_between_its_owners_commits() -> None:
    commits = [Commit(1.0, 5), Commit(2.0, 5), Commit(4.5, 5), Commit(4.6, 5)]
    assert idle(commits, moved=3.0) == Idle(2.0, 4.5)
    assert idle(commits, moved=3.0).seconds == 2.5


@pytest.mark.parametrize("moved", [0.5, 3.0])
def test_a_partition_without_two_owners_is_an_error(moved: float) -> None:
    with pytest.raises(ValueError, match="one of its owners only"):
        idle([Commit(1.0, 5), Commit(2.0, 5)], moved)


def test_what_goes_on_is_all_in_time() -> None:
    commits = {0: steady(0, 10), 1: steady(0, 10)}
    assert rate(commits, 0, 10) == pytest.approx(200)
    assert in_time(commits, 4, 8, usual=200) == pytest.approx(200)


def test_what_is_made_up_for_later_is_not_in_time() -> None:
    """By the whole span's count alone, a partition that stood still for half of it kept everything."""
    made_up = {0: [*steady(0, 2), Commit(3.95, 200), *steady(4, 6)]}
    assert rate(made_up, 2, 4) == pytest.approx(100)
    assert in_time(made_up, 2, 4, usual=100) == pytest.approx(5)
    assert in_time(made_up, 0, 4, usual=100) == pytest.approx(52.5)


def test_the_longest_silence_may_have_begun_before() -> None:
    commits = [Commit(0.0, 1), Commit(2.0, 1), Commit(2.5, 1), Commit(9.0, 1)]
    assert longest(commits, 1.0, 2.4) == 2.0
    assert longest(commits, 2.0, 2.5) == 0.5
    assert longest(commits, 9.0, 10.0) == 0.0


def moved_and_kept(*, stalled: bool) -> Commits:
    """Partition 0 moves at 10.5 and is idle from 10 to 11; 1 stays, and may stand still as long."""
    stays = [*steady(0, 10), *steady(11, 14)] if stalled else steady(0, 14)
    return {0: [*steady(0, 10), *steady(11, 14)], 1: stays}


def test_a_change_that_nobody_else_notices() -> None:
    change = figures("join", moved_and_kept(stalled=False), {0: 10.5}, began=9.0)
    assert list(change.idle) == pytest.approx([1.05])
    assert change.retained == pytest.approx(1.0, abs=0.05)
    assert change.silence == pytest.approx(change.usual_silence)


def test_a_change_that_stops_the_others() -> None:
    change = figures("join", moved_and_kept(stalled=True), {0: 10.5}, began=9.0)
    assert change.retained == pytest.approx(0.05, abs=0.05)
    assert change.silence == pytest.approx(1.05)


def test_where_everything_moves_nothing_is_retained() -> None:
    commits = moved_and_kept(stalled=True)
    assert figures("kill", commits, {0: 10.5, 1: 10.5}, began=9.0).retained is None


def test_a_goal_is_met_by_the_worst() -> None:
    good = MemberChange("join", (0.5, 0.6), 0.99, 0.1, 0.1)
    bad = MemberChange("join", (0.5, 2.0), 0.90, 1.5, 0.1)
    kill = MemberChange("kill", (6.5, 6.9), 1.0, 0.1, 0.1)
    assert all(goal.met for goal in goals([good, kill]))
    assert [goal.met for goal in goals([good, bad, kill])] == [False, False, True]
    shown = table([good, bad, kill])
    assert max(map(len, shown.splitlines())) <= 80
