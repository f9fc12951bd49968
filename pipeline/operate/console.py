"""What the operating commands need of a terminal: tables, widths, and a question with yes or no."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import PipelineError

COLUMNS = 80
"""The width if standard output is not a terminal, and the least that a table is given."""


def width() -> int:
    """Return the columns to print in: the terminal's, at least `COLUMNS`; else `COLUMNS`."""
    return max(COLUMNS, shutil.get_terminal_size().columns) if sys.stdout.isatty() else COLUMNS


def table(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), columns: int | None = COLUMNS
) -> list[str]:
    """Lay out rows of cells as aligned lines of plain text, one line per row.

    If a line would be longer than ``columns``, the widest columns are cut until it fits. The same
    rows give the same lines on a terminal and in a pipe: no colours, no borders.

    Args:
        rows: cells, the same number in each row; the first row is the head.
        right: the numbers of the columns that are aligned to the right.
        columns: how long a line may be, in characters; None: as long as it takes.
    """
    laid_out = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for place in range(len(rows[0])):
        laid_out.add_column(justify="right" if place in right else "left")
    for row in rows:
        laid_out.add_row(*(_cell(text) for text in row))
    if columns is None:
        columns = max(
            COLUMNS, sum(2 + max(map(cell_len, column)) for column in zip(*rows, strict=True))
        )
    console = Console(width=columns, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(laid_out)
    return [line.rstrip() for line in capture.get().split("\n")[: len(rows)]]


def _cell(text: str) -> Text:
    return Text(" ".join(text.split()), no_wrap=True, overflow="ellipsis")


def counted(number: int, what: str) -> str:
    """Return ``1 record``, ``2 records``, and so on."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def cut(text: str, width: int) -> str:
    """Return text on one line, cut at its end to ``width`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def cut_middle(text: str, width: int) -> str:
    """Return text cut in its middle to ``width`` characters: both ends of a name say something."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return text[: width - 1 - tail] + "…" + text[-tail:]


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: ``1.2s``, ``3m 20s``, ``5h 12m``, ``2d 3h``."""
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
    """Ask on the terminal and return whether the answer was yes; don't ask if ``yes`` is true.

    Raises:
        PipelineError: there is no terminal to ask on.
        KeyboardInterrupt: Ctrl-C.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise PipelineError("there is no terminal to ask on: to confirm, pass --yes")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D: no answer is a no
        print()
        return False
