"""When partitions stood still, from their commit times. All times are seconds since the epoch."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import attrs

SLICE = 0.1
"""Width of a time slice in seconds. A partition commits every few hundredths of a second."""


@attrs.frozen
class Commit:
    """A transaction of one partition: its commit time, and how many records it applied."""

    at: float
    records: int


Commits = Mapping[int, Sequence[Commit]]
"""The commits of each partition, in ascending order of time."""


@attrs.frozen
class Idle:
    """The time between two owners: from the old one's last commit to the new one's first."""

    last: float
    first: float

    @property
    def seconds(self) -> float:
        return self.first - self.last


def idle(commits: Sequence[Commit], moved: float) -> Idle:
    """Find the idle time around ``moved``, the moment when the partition changed hands.

    Raises:
        ValueError: nothing was committed before ``moved``, or nothing after it.
    """
    place = bisect_left(commits, moved, key=lambda commit: commit.at)
    if not 0 < place < len(commits):
        raise ValueError("a partition was applied by one of its owners only")
    return Idle(commits[place - 1].at, commits[place].at)


def rate(commits: Commits, start: float, end: float) -> float:
    """Records per second, all partitions together."""
    return sum(c.records for c in _between(commits, start, end)) / (end - start)


def in_time(commits: Commits, start: float, end: float, usual: float) -> float:
    """Records per second that were committed in time, if ``usual`` records per second are due.

    Of each time slice at most the usual number of records counts: what stood still and was caught up
    with later does not count as in time.
    """
    slices = max(1, round((end - start) / SLICE))
    width = (end - start) / slices
    counts = [0] * slices
    for commit in _between(commits, start, end):
        counts[min(slices - 1, math.floor((commit.at - start) / width))] += commit.records
    return sum(min(count, usual * width) for count in counts) / (end - start)


def longest(commits: Sequence[Commit], start: float, end: float) -> float:
    """The longest gap between commits that overlaps the time span, in seconds; 0 if none does."""
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
