"""The heaviest tenants and keys are known, whatever there is beside them, in bounded memory."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.observe.heavy import CROWD, HALF_LIFE, KEPT, HeavyHitters, Share


def add(hitters: HeavyHitters, counts: dict[int, int], now: float = 0.0) -> None:
    hitters.add({name: Share(records, 1, 0.001) for name, records in counts.items()}, now)


def test_a_heavy_one_is_found_among_more_than_can_be_kept() -> None:
    hitters = HeavyHitters()
    for batch in range(200):
        add(hitters, {-1: 50} | {batch * 100 + place: 1 for place in range(100)})
    first, second = hitters.top(2, 0.0)
    assert (first.name, first.records, first.rows) == (-1, 10_000, 200)
    assert second.recent < first.recent


def test_memory_is_bounded() -> None:
    hitters = HeavyHitters()
    for name in range(20_000):
        add(hitters, {name: 1})
        assert len(hitters) <= CROWD
    assert len(hitters) >= KEPT


@given(
    st.lists(st.dictionaries(st.integers(0, 3000), st.integers(1, 20), max_size=1500), max_size=8)
)
def test_recent_weight_is_never_too_low_and_nobody_heavier_than_the_floor_is_missing(
    batches: list[dict[int, int]],
) -> None:
    hitters = HeavyHitters()
    truth: Counter[int] = Counter()
    for batch in batches:
        add(hitters, batch)
        truth.update(batch)
    found = {heavy.name: heavy for heavy in hitters.top(CROWD, 0.0)}
    lightest = min((heavy.recent for heavy in found.values()), default=0.0)
    for name, count in truth.items():
        if name in found:
            assert found[name].recent >= count
            assert found[name].records <= count
        else:
            assert count <= lightest


def test_what_was_heavy_once_gives_way_to_what_is_heavy_now() -> None:
    hitters = HeavyHitters()
    add(hitters, {1: 1000}, now=1.0)
    add(hitters, {2: 400}, now=1.0 + 2 * HALF_LIFE)
    assert [heavy.name for heavy in hitters.top(2, 1.0 + 2 * HALF_LIFE)] == [2, 1]
    assert [heavy.records for heavy in hitters.top(2, 1.0 + 2 * HALF_LIFE)] == [400, 1000]
