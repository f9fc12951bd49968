"""How a batch is divided among the calls of a handler."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from pipeline.records.record import Record

_ordering_of = attrgetter("ordering")


def runs(records: Iterable[Record]) -> Iterator[Sequence[Record]]:
    """Neighbouring records of one ordering key, as lists."""
    for _, run in groupby(records, _ordering_of):
        yield list(run)


def whole(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """All of them, in one call."""
    yield records
