"""Offsets as ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise


def ranges_of(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Return offsets as sorted half-open ranges that do not touch.

    ``offsets`` come in any order, each of them once.
    """
    ascending = sorted(offsets)
    if not ascending:
        return []
    first, last = ascending[0], ascending[-1]
    if last - first == len(ascending) - 1:
        return [(first, last + 1)]
    gaps = [pair for pair in pairwise(ascending) if pair[1] - pair[0] != 1]
    starts = [first, *(after for _, after in gaps)]
    ends = [*(before + 1 for before, _ in gaps), last + 1]
    return list(zip(starts, ends, strict=True))


def outside(
    start: int, end: int, covers: Iterable[tuple[int, int | None]]
) -> Sequence[tuple[int, int]]:
    """Return what of a range, half-open, none of ``covers`` has; those may overlap, or have no end."""
    left = []
    for begin, until in sorted(covers, key=lambda cover: cover[0]):
        if begin > start and start < end:
            left.append((start, min(begin, end)))
        start = max(start, end if until is None else until)
    if start < end:
        left.append((start, end))
    return left
