"""When partitions stood still, from the times of their commits. Times in seconds since the epoch."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import attrs

SLICE = 0.1
"""Seconds. A partition's commits come every few hundredths of a second."""


@attrs.frozen
class Commit:
    """A transaction of one partition: when it was committed, and how many records it applied."""

    at: float
    records: int


Commits = Mapping[int, Sequence[Commit]]
"""By partition, in ascending order of their times."""


@attrs.frozen
class Idle:
    """Between two owners: the last commit of the old one, the first of the new one."""

    last: float
    first: float

    @property
    def seconds(self) -> float:
        return self.first - self.last


def idle(commits: Sequence[Commit], moved: float) -> Idle:
    """What lies around the moment when a partition changed hands.

    Raises:
        ValueError: nothing was committed before it, or nothing after it.
    """
    place = bisect_left(commits, moved, key=lambda commit: commit.at)
    if not 0 < place < len(commits):
        raise ValueError("a partition was applied by one of its owners only")
    return Idle(commits[place - 1].at, commits[place].at)


def rate(commits: Commits, start: float, end: float) -> float:
    """Records a second, of all partitions together."""
    return sum(c.records for c in _between(commits, start, end)) / (end - start)


def in_time(commits: Commits, start: float, end: float, usual: float) -> float:
    """Records a second that were committed when they were due, where ``usual`` a second are due.

    A slice of time counts for what was committed in it, and for no more than what is usual in it:
    what stood still and was made up for later does not count as if it had gone on.
    """
    slices = max(1, round((end - start) / SLICE))
    width = (end - start) / slices
    counts = [0] * slices
    for commit in _between(commits, start, end):
        counts[min(slices - 1, math.floor((commit.at - start) / width))] += commit.records
    return sum(min(count, usual * width) for count in counts) / (end - start)


def longest(commits: Sequence[Commit], start: float, end: float) -> float:
    """The longest time between two commits that reaches into a time, in seconds; 0: none does."""
    return max(
        (after.at - before.at for before, after in pairwise(commits)
         if after.at > start and before.at < end),
        default=0.0,
    )  # fmt: skip


def _between(commits: Commits, start: float, end: float) -> Iterable[Commit]:
    for of_partition in commits.values():
        for commit in of_partition:
            if start <= commit.at < end:
                yield commit
