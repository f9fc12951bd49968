"""Figures for people, and the tables that a page of the documentation has of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def seconds(value: float | None) -> str:
    """Format a time for people: three digits at most."""
    if value is None:
        return "–"
    if value < 0.0995:
        return f"{value * 1000:.1f} ms" if value < 0.00995 else f"{value * 1000:.0f} ms"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def share(value: float) -> str:
    """Format a share as per cent."""
    return f"{value:.1%}" if 0 < value < 0.0995 else f"{value:.0%}"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], texts: int = 1) -> str:
    """Format a table; the first ``texts`` columns are texts, the others numbers."""
    rule = [" --- |"] * texts + [" ---: |"] * (len(columns) - texts)
    lines = [f"| {' | '.join(columns)} |", f"|{''.join(rule)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """Return a page with blocks put in their places: ``<!-- NAME: begin -->`` to ``end``."""
    for name, text in blocks.items():
        place = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        page = place.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)  # type: ignore[misc]
    return page


def measured_on(document: Mapping[str, object]) -> str:
    """Say when and on what a file of results was measured."""
    machine = document["machine"]
    assert isinstance(machine, dict)
    return (
        f"Measured on {str(document['date'])[:10]}: {machine['cores']} cores "
        f"({machine['processor']}) that Kafka, Postgres and the pipeline share, "
        f"load {machine['load']:.1f} at the end."
    )
