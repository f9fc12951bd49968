"""What a transaction takes on a shard in quiet: the baseline that the adaptive limit compares with.

A transaction's time depends on how many rows it has and on how many others run beside it; both are
this program's own doing and say nothing about the server's load. So the baseline is kept in *cells*,
one for each class of sizes and of numbers at once (both by powers of two, so cells are few).

Two bounds carry from one cell to another, so that a size or a number that was never seen has a baseline
too. Both hold for any system of queues and waits whose work grows with the rows at most in proportion
(for the number of customers: Denning and Buzen, "The Operational Analysis of Queueing Network Models",
1978, the asymptotic bounds):

- twice the transactions at once take each at most twice as long: they queue for one resource, at worst;
- twice the rows take at most twice as long.

So from a cell of q rows, m at once and t seconds it follows that r rows with n at once take at most
t × max(1, r/q) × max(1, n/m) seconds. The least of these bounds over all cells is what is expected. It is
above what a quiet server needs, never below; what exceeds it clearly is not explained by what this
program does.

A cell holds the lowest of a smoothed mean, not the least of single times, which chance makes far too
small. The baseline moves: at once downwards, slowly upwards (see `relax`), so that a table that has
become larger, or a server moved to slower disks, is the usual case after a while.
"""

from __future__ import annotations

import attrs

SMOOTHING = 0.1
"""The weight of one transaction in a cell's mean: of about the last twenty."""

FEWEST = 8
"""A cell says nothing before so many transactions."""


@attrs.define
class _Cell:
    """Means of one class of transactions, and what they were when their time was lowest."""

    rows: float
    at_once: float
    seconds: float
    count: int = 1
    low_rows: float = 0.0
    low_at_once: float = 0.0
    low: float = 0.0

    def bound(self, rows: float, at_once: float) -> float:
        """Return what so many rows take at most with so many at once, by the lowest mean here."""
        return self.low * max(1.0, rows / self.low_rows) * max(1.0, at_once / self.low_at_once)

    def learn(self, rows: int, at_once: int, seconds: float) -> None:
        self.count += 1
        weight = max(SMOOTHING, 1.0 / self.count)
        self.rows += weight * (rows - self.rows)
        self.at_once += weight * (at_once - self.at_once)
        self.seconds += weight * (seconds - self.seconds)
        known = self.count > FEWEST
        if self.count >= FEWEST and not (
            known and self.seconds >= self.bound(self.rows, self.at_once)
        ):
            self.low_rows, self.low_at_once, self.low = self.rows, self.at_once, self.seconds


class Baseline:
    """What transactions have taken so far, by their rows and by how many ran at once.

    Nothing here is a checkpoint.
    """

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], _Cell] = {}

    def learn(self, rows: int, at_once: int, seconds: float) -> None:
        """Take one transaction into account: ``seconds`` for ``rows``, with ``at_once`` running."""
        place = (rows.bit_length(), (at_once - 1).bit_length())
        cell = self._cells.get(place)
        if cell is None:
            self._cells[place] = _Cell(rows, at_once, seconds)
        else:
            cell.learn(rows, at_once, seconds)

    def expected(self, rows: int, at_once: int) -> float | None:
        """Return the seconds that a transaction takes at most in quiet; None while nothing is known."""
        return min(
            (cell.bound(rows, at_once) for cell in self._cells.values() if cell.count >= FEWEST),
            default=None,
        )

    def relax(self, factor: float) -> None:
        """Raise the whole baseline: what was usual is ``factor`` times as long now."""
        for cell in self._cells.values():
            cell.low *= factor

    def forget(self) -> None:
        """Begin anew."""
        self._cells.clear()
