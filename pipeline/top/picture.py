"""The group's state as tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

State = Mapping[str, Any]

STATES = {"closed": "works", "open": "away", "half-open": "is tried"}
"""The breaker's words are an electrician's: closed is where it works."""

KEYS = "sort: p partition, o owner, s state, l lag, t time lag, b buffered;  q quit"


@attrs.frozen
class Order:
    """How partitions are sorted, by the key that was pressed."""

    key: str = "p"
    reverse: bool = False

    def pressed(self, key: str) -> Order:
        """Return the order after a key; a key that sorts by nothing changes nothing."""
        if key not in SORTS:
            return self
        return Order(key, not self.reverse) if key == self.key else Order(key)

    def sort(self, partitions: Sequence[State]) -> list[State]:
        """Return partitions in this order; of numbers, the highest first, and what is not known."""
        found = sorted(partitions, key=_place)
        found.sort(key=SORTS[self.key], reverse=self.reverse)
        return found


def _place(partition: State) -> tuple[str, int]:
    return str(partition["topic"]), int(partition["partition"])


def _highest(name: str) -> Callable[[State], tuple[bool, float]]:
    def key(partition: State) -> tuple[bool, float]:
        value = partition.get(name)
        return value is not None, -(value or 0)

    return key


SORTS: Mapping[str, Callable[[State], Any]] = {
    "p": _place,
    "o": lambda partition: str(partition.get("owner") or ""),
    "s": lambda partition: str(partition.get("state")),
    "l": _highest("message_lag"),
    "t": _highest("time_lag_seconds"),
    "b": _highest("buffered"),
}


def picture(
    state: State,
    order: Order = Order(),
    rows: int | None = None,
) -> Group:
    """Return what is shown.

    Args:
        state: what ``/api/state`` says.
        order: of the partitions.
        rows: how many lines there are for all of it; None: as many as it takes.
    """
    above: list[RenderableType] = [*_head(state), Text(""), _shards(state), Text("")]
    below = [*_ingest(state)]
    room = None
    if rows is not None:
        used = len(list(_head(state))) + 2 + 1 + len(state["shards"]) + len(below) + 3
        room = max(3, rows - used)
    return Group(*above, *_partitions(order.sort(state["partitions"]), room), *below)


def _head(state: State) -> Iterator[Text]:
    instances = state["instances"]
    silent = [each for each in instances if not each["answers"]]
    count = f"{len(instances)} instance{'' if len(instances) == 1 else 's'}"
    name, group = _cut(state["name"], 26), _cut(state["group"], 26)
    yield _line(f"{name} (group {group}), {count}", "bold")
    parts = [f"applied {_number(state['rate'])}/s", f"lag {_number(state['message_lag'])}",
             f"time lag {_seconds(state['time_lag_seconds'])}"]  # fmt: skip
    if any(each.get("ingest") for each in instances):
        parts.append(f"accepted {_number(state['accepted_rate'])}/s")
    if letters := sum(state["dead_letters"].values()):
        parts.append(f"dead letters {letters:,}")
    yield _line(", ".join(parts))
    if state.get("note"):
        yield _line(state["note"], "cyan")
    for each in silent:
        yield _line(
            f"{each['owner']} on {each['machine']} is not answering: {each['problem']}", "red"
        )
    for each in instances:
        for trouble in each["trouble"] or ():
            yield _line(f"{each['owner']}: {trouble}", "red")
    for each in state["shards"]:
        if each["trouble"]:
            yield _line(f"shard {each['shard']} is {each['trouble']}", "red")
    for each in state["pauses"]:
        yield _line(f"paused: {each['what']}, {each['story']}", "yellow")


def _line(text: str, style: str = "") -> Text:
    return Text(" ".join(text.split()), style=style, no_wrap=True, overflow="ellipsis")


def _table(*columns: tuple[str, int, bool]) -> Table:
    """Columns: the head, the least width, whether it is of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for head, width, right in columns:
        table.add_column(
            head, min_width=width, no_wrap=True, overflow="ellipsis",
            justify="right" if right else "left",
        )  # fmt: skip
    return table


def _shards(state: State) -> Table:
    table = _table(
        ("shard", 16, False), ("state", 8, False), ("limit", 5, True), ("in flight", 9, True),
        ("busy", 4, True), ("latency", 9, True),
    )  # fmt: skip
    for each in state["shards"]:
        table.add_row(
            _cut(each["shard"], 24), STATES.get(each["state"], str(each["state"])),
            str(each["limit"]), str(each["in_flight"]), str(each["busy"]),
            _millis(each["latency_seconds"]), style="red" if each["trouble"] else "",
        )  # fmt: skip
    return table


def _partitions(partitions: Sequence[State], room: int | None) -> Iterator[RenderableType]:
    table = _table(
        ("partition", 12, False), ("owner", 8, False), ("state", 7, False), ("lag", 7, True),
        ("time lag", 8, True), ("buffered", 8, True),
    )  # fmt: skip
    shown = partitions if room is None or len(partitions) <= room else partitions[: room - 1]
    for each in shown:
        table.add_row(
            _cut(f"{each['topic']}-{each['partition']}", 26), _cut(each.get("owner") or "-", 17),
            "paused" if each.get("paused") is not None else str(each.get("state")),
            _number(each.get("message_lag")), _seconds(each.get("time_lag_seconds")),
            _number(each.get("buffered")), style="" if each.get("answers") else "red",
        )  # fmt: skip
    yield table
    if len(shown) < len(partitions):
        yield _line(f"and {len(partitions) - len(shown)} more; another order shows others first")


def _ingest(state: State) -> Iterator[Text]:
    for each in state["instances"]:
        if given := each.get("ingest"):
            refused = sum((given.get("refused") or {}).values())
            yield _line(
                f"ingest {each['owner']}: {_number(each['rate'])}/s, {given['accepted']:,} accepted,"
                f" {refused:,} refused, {_number(given['pending'])} pending,"
                f" request {_millis(given['latency_seconds'])}"
            )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _millis(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:,.1f} ms"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:,.0f} min" if value < 7200 else f"{value / 3600:,.0f} h"


def _cut(text: str, width: int) -> str:
    """Cut in the middle: both ends of a name say something."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return text[: width - 1 - tail] + "…" + text[-tail:]
