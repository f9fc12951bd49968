"""Dead letters as text, for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from pipeline.operate.console import cut, cut_middle, table, width
from pipeline.operate.deadletters import DeadLetter, Found


def lines_of(letters: Sequence[DeadLetter], found: Found, *, several: bool) -> list[str]:
    """The table; offsets carry their partition where the topic has several."""
    rows = [["offset", "when (UTC)", "source", "state", "key", "reason"]]
    for letter in letters:
        state = found.state(letter)
        rows.append([
            f"{letter.place.partition}:{letter.offset}" if several else str(letter.offset),
            letter.failed_at.astimezone(UTC).strftime("%m-%d %H:%M:%S"),
            cut_middle(f"{letter.source}@{letter.source_offset}", 20),
            letter.sqlstate or "-",
            cut(_text(letter.key), 10),
            (f"({state}) " if state else "") + letter.reason,
        ])  # fmt: skip
    return table(rows, right=(0,), columns=width())


def _text(data: bytes | None) -> str:
    return "-" if data is None else data.decode("utf-8", "backslashreplace")


def described(letter: DeadLetter, state: str | None) -> Iterator[str]:
    """Everything about a dead letter; its value indented where it is JSON."""
    made = datetime.fromtimestamp(max(0, letter.timestamp) / 1000, UTC)
    yield f"dead letter  {letter} ({state or 'waiting'})"
    yield f"source       {letter.source}@{letter.source_offset}"
    yield f"made         {made.isoformat(timespec='milliseconds')}"
    yield f"given up     {letter.failed_at.isoformat(timespec='milliseconds')}"
    yield f"group        {letter.group or '-'}"
    yield f"attempts     {letter.attempts or '-'}"
    yield f"sqlstate     {letter.sqlstate or '-'}"
    yield f"error        {letter.error or '-'}"
    yield f"reason       {letter.reason or '-'}"
    yield f"key          {_text(letter.key)}"
    for name, value in letter.own_headers:
        yield f"header       {name}: {_text(value)}"
    yield "value"
    yield pretty(letter.value)


def pretty(value: bytes | None) -> str:
    """A value for reading: JSON indented, other text as it is."""
    if value is None:
        return "  (null: a tombstone)"
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except ValueError:
        return _text(value)
