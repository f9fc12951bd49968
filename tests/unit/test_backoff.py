"""Waits between attempts: doubled, capped, and different each time."""

from __future__ import annotations

import pytest

from pipeline.runtime.backoff import Backoff


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 10.0), (100_000, 10.0)]
)
def test_a_wait_is_between_half_of_its_ceiling_and_all_of_it(attempt: int, ceiling: float) -> None:
    waits = [Backoff(0.5, 10.0).seconds(attempt) for _ in range(100)]
    assert all(ceiling / 2 <= wait <= ceiling for wait in waits)
    assert len(set(waits)) > 1, "instances that failed together must not come back together"
