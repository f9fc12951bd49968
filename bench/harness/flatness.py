"""Fits of figures along an axis: one level, or a straight line.

Flat within 10 % means that there is a level from which no figure differs by more than 10 %. The best
level lies midway between the smallest and the largest figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

KILOBYTE = 1000


@attrs.frozen
class Fit:
    """A level or a line through figures, and how far the figures are from it.

    Attributes:
        deviation: the largest difference from the expected figure, as a share of it.
        expected: the expected figure per value of the axis.
        fixed: the line's figure at size 0; None for a level.
        per_kilobyte: what the line adds per 1,000 bytes; None for a level.
    """

    deviation: float
    expected: dict[float, float]
    fixed: float | None = None
    per_kilobyte: float | None = None


def flatness(figures: Mapping[float, float]) -> Fit:
    """Fit one level to positive figures, given by their value on the axis."""
    low, high = min(figures.values()), max(figures.values())
    level = (low + high) / 2
    return Fit((high - low) / (high + low), dict.fromkeys(figures, level))


def linearity(figures: Mapping[float, float]) -> Fit:
    """Fit a straight line to positive figures, given by size in bytes.

    The line minimises the squares of the relative differences, so that a large figure does not weigh
    more than a small one: weighted least squares with weights 1 ÷ figure².

    Raises:
        ValueError: there are fewer than two sizes.
    """
    if len(figures) < 2:
        raise ValueError("a line needs figures at two sizes")
    fixed, slope = _line([(size / KILOBYTE, figure) for size, figure in figures.items()])
    expected = {size: fixed + slope * size / KILOBYTE for size in figures}
    deviation = max(abs(figures[size] / expected[size] - 1) for size in figures)
    return Fit(deviation, expected, fixed, slope)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    x_mean = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    y_mean = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    covariance = sum(
        w * (x - x_mean) * (y - y_mean) for w, (x, y) in zip(weights, points, strict=True)
    )
    variance = sum(w * (x - x_mean) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = covariance / variance
    return y_mean - slope * x_mean, slope
