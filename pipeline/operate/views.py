"""What the operating commands found, as lines of text."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from pipeline.config.model import Config
from pipeline.operate.console import cut, cut_middle, duration, table, width
from pipeline.operate.deadletters import DeadLetter, Found, moment_of
from pipeline.operate.lag import PartitionLag, totals
from pipeline.operate.rewind_plan import PartitionMove
from pipeline.postgres.ledger.lane_moves import LaneMove
from pipeline.postgres.sink.merges import MERGES

# Lag


def lag_lines(group: str, lags: Sequence[PartitionLag]) -> list[str]:
    """Return a table with one line per partition, and a line with the totals."""
    rows = [["partition", "committed", "end", "message lag", "time lag"]]
    for lag in lags:
        committed = "-" if lag.committed is None else str(lag.committed)
        name = cut_middle(str(lag.source), 30)
        rows.append([name, committed, str(lag.end), str(lag.message_lag), _age(lag.time_lag)])
    messages, age = totals(lags)
    rows.append(["total", "", "", str(messages), _age(age)])
    lines = [f"group {group}", *table(rows, right=(1, 2, 3, 4), columns=width())]
    return [*lines, *_pauses_of(lags)]


def _pauses_of(lags: Sequence[PartitionLag]) -> Iterator[str]:
    """Yield what is paused, and why, a line for each pause."""
    for pause in dict.fromkeys(lag.pause for lag in lags if lag.pause is not None):
        numbers = [str(lag.source) for lag in lags if lag.pause == pause]
        which = "" if len(numbers) == 1 else f" ({len(numbers)} partitions)"
        yield f"paused: {pause.what}{which}, {pause.story()}"


def _age(seconds: float | None) -> str:
    return "?" if seconds is None else "0" if seconds == 0 else duration(seconds)


# Rewinding


def rewind_lines(config: Config, moves: Sequence[PartitionMove]) -> Iterator[str]:
    """Yield what will change, one line per partition, and what follows from it."""
    rows = [["partition", "from", "to", "applied again", "skipped", "shard"]]
    for move in sorted(moves, key=lambda move: move.source):
        rows.append(
            [cut_middle(str(move.source), 28), str(move.begin), str(move.to), str(move.again),
             str(move.skipped), move.shard]
        )  # fmt: skip
    yield f"group {config.kafka.group_id}"
    yield from table(rows, right=(1, 2, 3, 4), columns=width())
    again, skipped = sum(move.again for move in moves), sum(move.skipped for move in moves)
    yield f"in all: up to {again} records applied again, up to {skipped} skipped for good"
    if again:
        yield from _consequences(config)
    if skipped:
        yield "skipped records are never applied, unless you rewind again"
    yield from _of_lanes(moves)


def _of_lanes(moves: Sequence[PartitionMove]) -> Iterator[str]:
    """What becomes of records that wait in lanes: the table counts none of them."""
    for move in moves:
        if move.lanes:
            lanes = "1 lane" if move.lanes == 1 else f"{move.lanes} lanes"
            yield f"{move.source}: {lanes}: {_LANES[move.lane_move].format(to=move.to)}"


_LANES = {
    LaneMove.STAY: "what waits there goes on waiting",
    LaneMove.BACK: "what waits there goes on waiting; what they applied from {to} on is applied again",
    LaneMove.SKIP: "what waits there below {to} is skipped for good too",
}


def _consequences(config: Config) -> Iterator[str]:
    sink = config.sink
    if sink.handler is not None:
        yield f"handler {sink.handler} is called again for them"
        return
    added = [column for column in sink.columns if MERGES[column.merge].counts_again]
    if added:
        plural = "columns" if len(added) > 1 else "column"
        merges = " or ".join(sorted({column.merge for column in added}))
        names = ", ".join(column.name for column in added)
        yield f"they count again in the {plural} merged with {merges}: {names}"
    if sink.mode == "insert":
        yield f"they are inserted again into {sink.table}, unless a unique index forbids it"
    last = [column.name for column in sink.columns if column.merge == "last"]
    if last and sink.mode != "insert":
        yield "columns merged with last show older values until the replay has caught up"


def rewind_json(config: Config, moves: Sequence[PartitionMove], *, done: bool) -> dict[str, Any]:
    """Return what will move as an object for JSON; ``done``: whether it has moved."""
    return {
        "group": config.kafka.group_id,
        "done": done,
        "partitions": [
            {
                "topic": move.source.topic,
                "partition": move.source.partition,
                "from": move.begin,
                "to": move.to,
                "applied_again": move.again,
                "skipped": move.skipped,
                "shard": move.shard,
                **({"lanes": move.lane_move.value} if move.lanes else {}),
            }
            for move in moves
        ],
    }


# Dead letters


def dead_letter_lines(letters: Sequence[DeadLetter], found: Found, *, several: bool) -> list[str]:
    """Return a table of dead letters; offsets carry their partition if the topic has several.

    The reason comes last and is whole, however long the line: it is what one looks for.
    """
    rows = [["offset", "when (UTC)", "source", "state", "key", "reason"]]
    for letter in letters:
        state = found.state(letter)
        rows.append([
            f"{letter.place.partition}:{letter.offset}" if several else str(letter.offset),
            letter.failed_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            cut_middle(f"{letter.source}@{letter.source_offset}", 40),
            letter.sqlstate or "-",
            cut(_text(letter.key), 24),
            (f"({state}) " if state else "") + letter.reason,
        ])  # fmt: skip
    return table(rows, right=(0,), columns=None)


def _made(millis: int) -> str:
    moment = moment_of(millis)
    if moment is not None:
        return moment.isoformat(timespec="milliseconds")
    return "-" if millis < 0 else f"{millis} ms since 1970: beyond any calendar (microseconds?)"


def dead_letter_json(letter: DeadLetter, state: str | None) -> dict[str, Any]:
    """Return one dead letter as an object for JSON, with everything but the added headers.

    Key, value and headers are text if they are UTF-8; otherwise an object ``{"base64": "..."}``.
    """
    return {
        "partition": letter.place.partition,
        "offset": letter.offset,
        "state": state or "waiting",
        "source": {
            "topic": letter.source.topic,
            "partition": letter.source.partition,
            "offset": letter.source_offset,
        },
        "failed_at": letter.failed_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "group": letter.group,
        "attempts": int(letter.attempts) if letter.attempts.isdecimal() else None,
        "sqlstate": letter.sqlstate or None,
        "error": letter.error,
        "reason": letter.reason,
        "timestamp": letter.timestamp,
        "key": _json_text(letter.key),
        "value": _json_text(letter.value),
        "headers": [[name, _json_text(value)] for name, value in letter.own_headers],
    }


def _json_text(data: bytes | None) -> Any:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data or b"").decode()}


def dead_letter_details(letter: DeadLetter, state: str | None) -> Iterator[str]:
    """Yield everything about one dead letter; its value is indented if it is JSON."""
    yield f"dead letter  {letter} ({state or 'waiting'})"
    yield f"source       {letter.source}@{letter.source_offset}"
    yield f"made         {_made(letter.timestamp)}"
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
    """Return a value for reading: JSON indented, other text as it is."""
    if value is None:
        return "  (null: a tombstone)"
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except ValueError:
        return _text(value)


def _text(data: bytes | None) -> str:
    return "-" if data is None else data.decode("utf-8", "backslashreplace")
