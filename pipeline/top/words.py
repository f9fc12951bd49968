"""Numbers, names and tables as the terminal shows them."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text


def line(text: str, style: str = "") -> Text:
    """Return one line, cut where the terminal ends."""
    return Text(" ".join(text.split()), style=style, no_wrap=True, overflow="ellipsis")


def table(*columns: tuple[str, int, bool]) -> Table:
    """Return a table; columns: the head, the least width, whether it is of numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for head, width, right in columns:
        made.add_column(
            head, min_width=width, no_wrap=True, overflow="ellipsis",
            justify="right" if right else "left",
        )  # fmt: skip
    return made


def number(value: float | None) -> str:
    """Return a count; a dash if it is not known."""
    return "-" if value is None else f"{value:,.0f}"


def millis(value: float | None) -> str:
    """Return seconds as milliseconds; a dash if they are not known."""
    return "-" if value is None else f"{value * 1000:,.1f} ms"


def seconds(value: float | None) -> str:
    """Return seconds, in the unit that people would take; a dash if they are not known."""
    if value is None:
        return "-"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:,.0f} min" if value < 7200 else f"{value / 3600:,.0f} h"


def cut(text: str, width: int) -> str:
    """Cut in the middle: both ends of a name say something."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return text[: width - 1 - tail] + "…" + text[-tail:]
