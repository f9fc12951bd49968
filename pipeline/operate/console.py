"""What the operating commands print and ask."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta

from pipeline.errors import PipelineError

COLUMNS = 80
"""The width where standard output is no terminal, and the least that a table needs."""


def width() -> int:
    """Columns to print in: the terminal's, at least `COLUMNS`; `COLUMNS` elsewhere."""
    return max(COLUMNS, shutil.get_terminal_size().columns) if sys.stdout.isatty() else COLUMNS


def table(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), columns: int = COLUMNS
) -> list[str]:
    """Lines of a table, the first row its head; the last column is cut where the width ends.

    ``right`` names the columns that are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = min(widths[-1], max(left, 8))
    lines = []
    for row in rows:
        cells = [*row[:-1], cut(row[-1], widths[-1])]
        padded = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def cut(text: str, width: int) -> str:
    """Text on one line, cut at the end to a width."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def cut_middle(text: str, width: int) -> str:
    """Text cut in its middle: both ends of a name tell something."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return text[: width - 1 - tail] + "…" + text[-tail:]


def duration(seconds: float) -> str:
    """A duration in the two largest units: ``1.2s``, ``3m 20s``, ``5h 12m``, ``2d 3h``."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = timedelta(seconds=round(seconds))
    days, rest = whole.days, whole.seconds
    if days:
        return f"{days}d {rest // 3600}h"
    if rest >= 3600:
        return f"{rest // 3600}h {rest % 3600 // 60}m"
    return f"{rest // 60}m {rest % 60}s"


def confirmed(question: str, yes: bool) -> bool:
    """Ask on the terminal; True at once where ``yes``.

    Raises:
        PipelineError: there is no terminal to ask on.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise PipelineError("there is no terminal to ask on: to confirm, pass --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
