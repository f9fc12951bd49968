"""How a batch is divided among the calls of a handler."""

from __future__ import annotations

from pipeline.postgres.handlers.split import runs, whole
from tests.support.records import record


def test_runs_are_the_neighbours_of_one_key() -> None:
    records = [record(0, "a"), record(1, "a"), record(2, "b"), record(3, "a")]
    assert [[r.offset for r in run] for run in runs(records)] == [[0, 1], [2], [3]]
    assert list(runs([])) == []


def test_whole_is_one_call() -> None:
    records = [record(0, "a"), record(1, "b")]
    assert list(whole(records)) == [records]
