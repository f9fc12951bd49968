"""Parts of a batch: what is tried apart, and what must wait for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from pipeline.postgres.connections.errors import Verdict, judge
from pipeline.records.record import Record

Part: TypeAlias = tuple[Sequence[Record], int]
"""Records to be applied in one transaction, and how often they were tried."""

PIECES = 8
"""Into how many parts a batch is cut that could not be done in time, or met a lock: each failure
takes as long as the time-out, each success hardly any time."""


@attrs.frozen
class Held:
    """A record that can't be applied now, and perhaps never; the others of its batch go first.

    Attributes:
        record: the record.
        error: why not.
        attempts: how often it was tried.
        suspected: whether the error may be the record's own fault; otherwise it is tried again.
    """

    record: Record
    error: Exception
    attempts: int
    suspected: bool


def halves(records: Sequence[Record]) -> list[Sequence[Record]]:
    """The first and the second half of two or more records."""
    middle = len(records) // 2
    return [records[:middle], records[middle:]]


def pieces(records: Sequence[Record]) -> list[Sequence[Record]]:
    """At most `PIECES` parts of about the same size, in order."""
    size = -(-len(records) // PIECES)
    return [records[start : start + size] for start in range(0, len(records), size)]


def around(records: Sequence[Record], run: Sequence[Record]) -> list[Sequence[Record]]:
    """What stands before a run, the run, and what stands after it; none of them empty."""
    start = next(place for place, record in enumerate(records) if record is run[0])
    end = start + len(run)
    return [part for part in (records[:start], records[start:end], records[end:]) if part]


def held_up(records: Sequence[Record], run: Sequence[Record]) -> set[int]:
    """The offsets of a run, and of those after it that must not be applied before it."""
    keys: set[object] = set()
    offsets: set[int] = set()
    first = run[0].offset
    for record in records:
        own = record.ordering if type(record.ordering) is tuple else (record.ordering,)
        if record.offset == first or not keys.isdisjoint(own):
            keys.update(own)
            offsets.add(record.offset)
    return offsets | {record.offset for record in run}


def divided(
    records: Sequence[Record], error: Exception, tries: int
) -> Sequence[Sequence[Record]] | Held:
    """Smaller parts, or a record to hold."""
    suspected = judge(error) is Verdict.SUSPECT
    if len(records) == 1:
        return Held(records[0], error, tries, suspected)
    return halves(records) if suspected else pieces(records)


def without(todo: Sequence[Part], offsets: set[int]) -> list[Part]:
    """What is left of parts."""
    left = (([r for r in part if r.offset not in offsets], attempts) for part, attempts in todo)
    return [(part, attempts) for part, attempts in left if part]


def set_aside(todo: Sequence[Part], run: Sequence[Record], held: set[int]) -> list[Part]:
    """Hold a run, and what must not be applied before it; return what is left of the parts."""
    held |= held_up([record for part, _ in reversed(todo) for record in part], run)
    return without(todo, held)
