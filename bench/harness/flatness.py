"""Whether a figure is flat along an axis, and the line through figures that grow with the size.

Flat within 10 % means: there is a level from which no figure is further away than 10 %. The best such
level lies in the middle between the smallest and the largest figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

GOAL = 0.10
KILOBYTE = 1000


@attrs.frozen
class Verdict:
    """How far figures are from what they should be.

    Attributes:
        deviation: the largest distance from what is expected, as a share of it.
        expected: the level, or the line, at each value of the axis.
        fixed: of the line, where there is one: at size 0.
        per_kilobyte: of the line, for each further 1,000 bytes.
    """

    deviation: float
    expected: dict[float, float]
    fixed: float | None = None
    per_kilobyte: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the goal is."""
        return self.deviation <= GOAL


def flatness(figures: Mapping[float, float]) -> Verdict:
    """Figures (positive) by their value on the axis → how far they are from one level."""
    low, high = min(figures.values()), max(figures.values())
    level = (low + high) / 2
    return Verdict((high - low) / (high + low), dict.fromkeys(figures, level))


def linearity(figures: Mapping[float, float]) -> Verdict:
    """Figures (positive) by size in bytes → how far they are from a straight line.

    The line makes the squares of the relative distances least, so that a large figure does not count
    more than a small one: weighted least squares with weights 1 ÷ figure².

    Raises:
        ValueError: two sizes at least are needed.
    """
    if len(figures) < 2:
        raise ValueError("a line needs figures at two sizes")
    fixed, slope = _line([(size / KILOBYTE, figure) for size, figure in figures.items()])
    expected = {size: fixed + slope * size / KILOBYTE for size in figures}
    deviation = max(abs(figures[size] / expected[size] - 1) for size in figures)
    return Verdict(deviation, expected, fixed, slope)


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
