"""The ledger of a simulated server: ``pipeline.applied``, folded as Postgres folds it, and the lanes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import attrs

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.store import AppliedOffsets
from pipeline.records.ranges import ranges_of
from pipeline.records.record import TopicPartition

Ranges = list[tuple[int, int]]


@attrs.frozen
class Applied:
    """A row: applied ranges, and the watermark that folding knew where it made the row."""

    ranges: Ranges
    folded: int | None = None


class SimulatedLedger:
    """The rows by partition (`ledger.key_of`). Whoever changes them does it as one step."""

    def __init__(self) -> None:
        self._rows: dict[Hashable, list[Applied]] = {}

    def note(self, key: Hashable, offsets: Iterable[int]) -> None:
        """One transaction's row."""
        self._rows.setdefault(key, []).append(Applied(ranges_of(offsets)))

    def known(self, key: Hashable) -> AppliedOffsets:
        """What a new owner learns."""
        row = _folded(self._rows.get(key, []))
        return AppliedOffsets.from_ranges(row.ranges, row.folded)

    def forget(self, key: Hashable) -> None:
        """Delete the rows of a lane that is forgotten."""
        self._rows.pop(key, None)

    def has(self, key: Hashable, offsets: Iterable[int]) -> bool:
        """Whether all of these are applied."""
        ranges = _folded(self._rows.get(key, [])).ranges
        return all(any(start <= offset < end for start, end in ranges) for offset in offsets)

    def fold(self, key: Hashable, watermark: int) -> None:
        """Make one row of a partition's, and of the watermark."""
        rows = self._rows.get(key, [])
        if watermark > 0:
            rows = [*rows, Applied([(0, watermark)], watermark)]
        if rows:
            self._rows[key] = [_folded(rows)]


class SimulatedLanes:
    """The rows of lanes by partition. Whoever changes them does it as one step."""

    def __init__(self) -> None:
        self._rows: dict[Any, dict[int, Lane]] = {}
        self._last: dict[Hashable, int] = {}

    def known(self, key: Hashable) -> tuple[list[Lane], int]:
        """What a new owner learns: the lanes, oldest first, and the largest number ever given."""
        rows = self._rows.get(key, {})
        return [rows[number] for number in sorted(rows)], self._last.get(key, 0)

    def open(self, key: Hashable, lane: Lane) -> None:
        """Add a lane, unless it is there."""
        self._rows.setdefault(key, {}).setdefault(lane.number, lane)
        self._last[key] = max(lane.number, self._last.get(key, 0))

    def note(self, key: Hashable, number: int, failure: LaneFailure | None) -> None:
        """Say what holds up a lane; no harm if it was forgotten already."""
        rows = self._rows.get(key, {})
        if number in rows:
            rows[number] = attrs.evolve(rows[number], failure=failure)

    def failures(self) -> list[tuple[tuple[TopicPartition, int], str]]:
        """The records that hold up open lanes, and their topics' ids."""
        found = []
        for (stream, topic_id, partition), rows in self._rows.items():
            source = TopicPartition(stream.partition("/")[2], partition)
            for lane in rows.values():
                if lane.failure is not None and lane.until_offset is None:
                    found.append(((source, lane.failure.offset), str(topic_id)))
        return found

    def close(self, key: Hashable, number: int, until: int) -> None:
        """End a lane; no harm if it was forgotten already."""
        rows = self._rows.get(key, {})
        if number in rows:
            rows[number] = attrs.evolve(rows[number], until_offset=until)

    def forget(self, key: Hashable, folded: int) -> tuple[list[int], list[int]]:
        """Delete the lanes that end at or below ``folded``: their numbers, and the closed ones left."""
        rows = self._rows.get(key, {})
        closed = {n: lane.until_offset for n, lane in rows.items() if lane.until_offset is not None}
        gone = [number for number, until in closed.items() if until <= folded]
        for number in gone:
            del rows[number]
        return gone, [number for number in closed if number not in gone]


def _folded(rows: Iterable[Applied]) -> Applied:
    """Rows as one: ``range_agg`` of the ranges, ``max`` of the watermarks."""
    rows = list(rows)
    folded = max((row.folded for row in rows if row.folded is not None), default=None)
    return Applied(_merged(pair for row in rows for pair in row.ranges), folded)


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges as Postgres's range_agg gives them: sorted, disjoint, not touching."""
    result: Ranges = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result
