"""What is apart from partitions, in tables below them: lanes, and the heaviest tenants and keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.top.words import cut, line, number, seconds, table

State = Mapping[str, Any]

FRAME = 2
"""Lines that a table takes beside its rows: an empty one, and its head."""


@attrs.frozen
class Section:
    """A table below the partitions.

    Attributes:
        parts: what is shown.
        height: lines that it takes.
    """

    parts: Sequence[RenderableType] = ()
    height: int = 0


def lanes(state: State, room: int | None) -> Section:
    """Return the lanes that are open, the one with the oldest record first, in so many lines."""
    found = state.get("lanes") or ()
    left_out = state.get("lanes_left_out") or 0
    most = len(found) + 1 if room is None else room - FRAME
    if not found or most < 1:
        return Section()
    shown = found if len(found) + bool(left_out) <= most else found[: max(1, most - 1)]
    made = table(
        ("lane of", 8, False), ("records of", 10, False), ("reason", 6, False), ("state", 7, False),
        ("waiting", 7, True), ("time lag", 8, True), ("for", 5, True), ("hold", 4, False),
    )  # fmt: skip
    for each in shown:
        made.add_row(*_lane(each, state["at"]), style="yellow" if each["hold"] else "")
    parts: list[RenderableType] = [Text(""), made]
    height = FRAME + len(shown)
    if more := len(found) - len(shown) + left_out:
        parts.append(line(f"and {number(more)} more lanes, with younger records"))
        height += 1
    return Section(parts, height)


def _lane(lane: State, now: float) -> Sequence[str]:
    return (
        cut(f"{lane['topic']}-{lane['partition']}", 14),
        cut(lane["records_of"], 14),
        lane["reason"],
        lane["state"].split()[0],
        number(lane["waiting"]),
        seconds(lane["time_lag_seconds"]),
        seconds(max(0.0, now - lane["opened_at"])),
        cut(lane["hold"]["id"], 7) if lane["hold"] else "-",
    )


def heaviest(state: State, room: int | None) -> Section:
    """Return the heaviest tenants, and then keys, of late, in so many lines."""
    tenants, keys = state.get("tenants") or (), state.get("keys") or ()
    each = max(len(tenants), len(keys)) if room is None else (room - FRAME) // 2
    if not (tenants or keys) or each < 1:
        return Section()
    rows = [("tenant", found) for found in tenants[:each]] + [
        ("key", found) for found in keys[:each]
    ]
    made: Table = table(
        ("heaviest of late", 24, False), ("of late", 8, True), ("records", 9, True),
        ("rows", 9, True), ("in Postgres", 11, True),
    )  # fmt: skip
    for kind, found in rows:
        made.add_row(
            cut(f"{kind} {found['name']}", 34), number(found["recent"]), number(found["records"]),
            number(found["rows"]), seconds(found["seconds"]),
        )  # fmt: skip
    return Section([Text(""), made], FRAME + len(rows))
