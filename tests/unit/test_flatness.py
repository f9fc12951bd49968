"""The fits of the growth bench: one level, and a straight line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.growth import DEVIATION
from bench.harness.flatness import flatness, linearity

FIGURES = st.dictionaries(
    st.integers(1, 10**6).map(float), st.floats(0.1, 1000), min_size=1, max_size=8
)


def test_figures_on_one_level_are_flat() -> None:
    fit = flatness({1: 12.0, 256: 12.0})
    assert fit.deviation == 0
    assert fit.expected == {1: 12.0, 256: 12.0}


@pytest.mark.parametrize(("high", "reached"), [(1.09, True), (1.11, False)])
def test_flat_is_within_a_tenth_of_the_level_in_the_middle(high: float, reached: bool) -> None:
    assert (flatness({1: 0.9, 2: 1.0, 3: high}).deviation <= DEVIATION) is reached


def test_the_deviation_is_a_share_of_the_level() -> None:
    fit = flatness({1: 8.0, 2: 12.0, 3: 9.0})
    assert fit.deviation == pytest.approx(0.2)
    assert fit.expected[2] == 10.0


@given(FIGURES)
def test_no_figure_is_further_from_the_level_than_the_deviation(
    figures: dict[float, float],
) -> None:
    fit = flatness(figures)
    for value, figure in figures.items():
        assert abs(figure / fit.expected[value] - 1) <= fit.deviation + 1e-9


@given(st.floats(0.5, 100), st.floats(0, 50))
def test_a_line_is_found_again(fixed: float, slope: float) -> None:
    figures = {size: fixed + slope * size / 1000 for size in (100.0, 200.0, 1000.0, 4000.0)}
    fit = linearity(figures)
    assert fit.fixed == pytest.approx(fixed, rel=1e-6)
    assert fit.per_kilobyte == pytest.approx(slope, rel=1e-6, abs=1e-6)
    assert fit.deviation < 1e-6


def test_large_figures_count_no_more_than_small_ones() -> None:
    """By absolute distances the line would pass the large figures and miss the small ones."""
    figures = {100.0: 10.0, 200.0: 10.0, 50_000.0: 500.0, 100_000.0: 1300.0}
    fit = linearity(figures)
    assert abs(figures[100.0] / fit.expected[100.0] - 1) < 0.2


def test_what_bends_is_not_along_a_line() -> None:
    figures = {size: 10 + (size / 1000) ** 3 for size in (100.0, 200.0, 1000.0, 4000.0)}
    assert linearity(figures).deviation > DEVIATION


def test_one_size_makes_no_line() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        linearity({100.0: 10.0})
