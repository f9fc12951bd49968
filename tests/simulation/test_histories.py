"""Two thousand histories, in which every law must hold. A failure prints its seed and its journal.

Explore further with ``python -m tests.simulation.search --minutes 10``.
"""

from __future__ import annotations

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


def test_a_seed_always_gives_the_same_history() -> None:
    for seed in (3, 17):
        one, other = run_history(seed, keep=True), run_history(seed, keep=True)
        assert one.journal
        assert one == other
