"""The group's state as tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.top.apart import heaviest, lanes
from pipeline.top.words import cut, line, millis, number, seconds, table

State = Mapping[str, Any]

STATES = {"closed": "works", "open": "away", "half-open": "is tried"}
"""The breaker's words are an electrician's: closed is where it works."""

MOST_HOLDS = 5
"""How many holds have a line."""

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
    ingest = list(_ingest(state))
    if rows is None:
        below = [*lanes(state, None).parts, *heaviest(state, None).parts]
        return Group(*above, *_partitions(order.sort(state["partitions"]), None), *below, *ingest)
    room = rows - (len(list(_head(state))) + 2 + 1 + len(state["shards"]) + len(ingest) + 3)
    apart = lanes(state, room // 2)
    heavy = heaviest(state, (room - apart.height) // 2)
    room = max(3, room - apart.height - heavy.height)
    shown = _partitions(order.sort(state["partitions"]), room)
    return Group(*above, *shown, *apart.parts, *heavy.parts, *ingest)


def _head(state: State) -> Iterator[Text]:
    instances = state["instances"]
    silent = [each for each in instances if not each["answers"]]
    count = f"{len(instances)} instance{'' if len(instances) == 1 else 's'}"
    name, group = cut(state["name"], 26), cut(state["group"], 26)
    yield line(f"{name} (group {group}), {count}", "bold")
    parts = [f"applied {number(state['rate'])}/s", f"lag {number(state['message_lag'])}",
             f"time lag {seconds(state['time_lag_seconds'])}"]  # fmt: skip
    if any(each.get("ingest") for each in instances):
        parts.append(f"accepted {number(state['accepted_rate'])}/s")
    if letters := sum(state["dead_letters"].values()):
        parts.append(f"dead letters {letters:,}")
    yield line(", ".join(parts))
    if state.get("note"):
        yield line(state["note"], "cyan")
    for each in silent:
        yield line(
            f"{each['owner']} on {each['machine']} is not answering: {each['problem']}", "red"
        )
    for each in instances:
        for trouble in each["trouble"] or ():
            yield line(f"{each['owner']}: {trouble}", "red")
    for each in state["shards"]:
        if each["trouble"]:
            yield line(f"shard {each['shard']} is {each['trouble']}", "red")
    for each in state["pauses"]:
        yield line(f"paused: {each['what']}, {each['story']}", "yellow")
    yield from _holds([each for each in state.get("holds") or () if each["state"] != "released"])


def _holds(found: Sequence[State]) -> Iterator[Text]:
    for each in found[:MOST_HOLDS]:
        state = "held" if each["state"] == "holding" else each["state"]
        yield line(
            f"{state}: {cut(each['records_of'], 26)} ({each['id']}), {each['story']}", "yellow"
        )
    if len(found) > MOST_HOLDS:
        yield line(f"and {len(found) - MOST_HOLDS} more holds: pipeline hold list", "yellow")


def _shards(state: State) -> Table:
    made = table(
        ("shard", 16, False), ("state", 8, False), ("limit", 5, True), ("in flight", 9, True),
        ("busy", 4, True), ("latency", 9, True),
    )  # fmt: skip
    for each in state["shards"]:
        made.add_row(
            cut(each["shard"], 24), STATES.get(each["state"], str(each["state"])),
            str(each["limit"]), str(each["in_flight"]), str(each["busy"]),
            millis(each["latency_seconds"]), style="red" if each["trouble"] else "",
        )  # fmt: skip
    return made


def _partitions(partitions: Sequence[State], room: int | None) -> Iterator[RenderableType]:
    made = table(
        ("partition", 12, False), ("owner", 8, False), ("state", 7, False), ("lag", 7, True),
        ("time lag", 8, True), ("buffered", 8, True),
    )  # fmt: skip
    shown = partitions if room is None or len(partitions) <= room else partitions[: room - 1]
    for each in shown:
        made.add_row(
            cut(f"{each['topic']}-{each['partition']}", 26), cut(each.get("owner") or "-", 17),
            "paused" if each.get("paused") is not None else str(each.get("state")),
            number(each.get("message_lag")), seconds(each.get("time_lag_seconds")),
            number(each.get("buffered")), style="" if each.get("answers") else "red",
        )  # fmt: skip
    yield made
    if len(shown) < len(partitions):
        yield line(f"and {len(partitions) - len(shown)} more; another order shows others first")


def _ingest(state: State) -> Iterator[Text]:
    if (visible := state.get("accepted_to_visible_seconds")) is not None:
        yield line(f"accepted to visible: {millis(visible) if visible < 1 else seconds(visible)}")
    for each in state["instances"]:
        if given := each.get("ingest"):
            refused = sum((given.get("refused") or {}).values())
            yield line(
                f"ingest {each['owner']}: {number(each['rate'])}/s, {given['accepted']:,} accepted,"
                f" {refused:,} refused, {number(given['pending'])} pending,"
                f" request {millis(given['latency_seconds'])}"
            )
