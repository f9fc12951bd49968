"""Two thousand histories, in which every law must hold. A failure prints its seed and its journal.

Explore further with ``python -m tests.simulation.search --minutes 10``.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.history import run_history

SEEDS = 2000
CHUNK = 100
FAST = 2
"""Chunks that the fastest runs take; the others are marked slow."""


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=[pytest.mark.slow] if first >= FAST * CHUNK else [])
        for first in range(0, SEEDS, CHUNK)
    ],
)
def test_the_laws_hold(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run_history(seed)
        if outcome.violations:
            pytest.fail(str(outcome), pytrace=False)


RARE = (
    "fenced",
    "in doubt: applied",
    "in doubt: not applied",
    "drained past the deadline",
    "retaken",
    "lost",
    "commit refused",
    "commits lost",
    "paused",
    "taken over anew",
    "fold of a void lease",
    "key repeated",
)
"""Paths that must be taken in the first seeds: a law that no history tries holds for nothing."""


def test_the_rare_paths_are_taken() -> None:
    marks: Counter[str] = Counter()
    for seed in range(200):
        marks.update(run_history(seed).marks)
    assert [path for path in RARE if not marks[path]] == []


def test_a_seed_always_gives_the_same_history() -> None:
    for seed in (3, 17):
        one, other = run_history(seed, keep=True), run_history(seed, keep=True)
        assert one.journal
        assert one == other
