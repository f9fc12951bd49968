"""The operators' wishes as lines of text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.contracts.rule import shown
from pipeline.contracts.wish import Hold, Pause, RateLimit, Wish, minute_of
from pipeline.contracts.wish_codec import to_json
from pipeline.operate.console import cut, table, width


def hold_lines(holds: Sequence[Hold]) -> Iterator[str]:
    """Yield a table of holds."""
    rows = [["hold", "records of", "state", "since", "until", "by", "reason"]]
    for hold in holds:
        rows.append([hold.id, cut(str(hold.rule), 30), hold.state.value, *_story(hold)])
    yield from table(rows, columns=width())


def pause_lines(pauses: Sequence[Pause]) -> Iterator[str]:
    """Yield a table of pauses."""
    rows = [["pause", "what", "since", "until", "by", "reason"]]
    for pause in pauses:
        rows.append([pause.id, cut(str(pause.what), 40), *_story(pause)])
    yield from table(rows, columns=width())


def limit_lines(limits: Sequence[RateLimit]) -> Iterator[str]:
    """Yield a table of limits."""
    rows = [["limit", "tenant", "rate", "since", "until", "by", "reason"]]
    for limit in limits:
        rows.append([limit.id, cut(shown(limit.tenant), 30), f"{limit.rate:g}/s", *_story(limit)])
    yield from table(rows, right=(2,), columns=width())


def _story(wish: Wish) -> list[str]:
    until = "-" if wish.until is None else _minute(wish.until)
    return [_minute(wish.since), until, wish.by, wish.why or "-"]


def _minute(millis: int) -> str:
    return minute_of(millis).removesuffix(" UTC")


def wishes_json(
    group: str, topic: str, name: str, wishes: Sequence[Hold | Pause | RateLimit]
) -> dict[str, Any]:
    """Return a list of wishes as an object for JSON."""
    return {"group": group, "topic": topic, name: [to_json(wish) for wish in wishes]}
