"""Goals: bounds on figures, and whether they are met."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs


@attrs.frozen
class Goal:
    """A bound on a figure, and the figure that was measured.

    Attributes:
        name: what the figure is, with its unit.
        measured: the figure.
        bound: the least or the highest value that meets the goal.
        at_least: whether ``bound`` is the least value; otherwise it is the highest.
    """

    name: str
    measured: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the figure is within its bound; the bound itself is."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        state = "met" if self.met else "MISSED"
        return f"goal {self.name:<44} {self.measured:8.3g} {sign} {self.bound:<5g} {state}"

    def as_json(self) -> dict[str, Any]:
        """Return the goal as a JSON object."""
        return {**attrs.asdict(self), "met": self.met}


def at_least(name: str, measured: float, bound: float) -> Goal:
    """Make a goal that a figure of ``bound`` or more meets."""
    return Goal(name, measured, bound, at_least=True)


def at_most(name: str, measured: float, bound: float) -> Goal:
    """Make a goal that a figure of ``bound`` or less meets."""
    return Goal(name, measured, bound, at_least=False)


def all_met(goals: Iterable[Goal]) -> bool:
    """Whether no goal is missed."""
    return all(goal.met for goal in goals)
