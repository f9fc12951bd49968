"""Columns on the wire: each one text, its values joined, which Postgres splits.

asyncpg encodes an array value by value, and asks of each whether it is an array itself: 2 µs a record
of five columns. Joining texts costs a fifth of that, and ``string_to_array`` costs Postgres no more
than reading an array does.

The separator and the marker for null are control characters, which JSON escapes and hardly any text
has. Where a value has one of them all the same, they are made so long and random that none can.

Handlers that write a whole batch by one statement may use both functions too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from secrets import token_hex
from typing import Any

from pipeline.postgres.sink.values import as_text

SEPARATOR, NULL = "\x1f", "\x1e"

_TEXT, _WHOLE = {str}, {int}


def packed(columns: Sequence[Sequence[Any]]) -> tuple[str, ...]:
    """The separator, the marker for null, and a text for each column: a statement's arguments.

    Values are whatever `unpacked`'s types can be cast from as text; None is null.
    """
    separator, null = SEPARATOR, NULL
    columns = [_texts(values) for values in columns]
    while True:
        texts = [_joined(values, separator, null) for values in columns]
        if None not in texts:
            return (separator, null, *texts)  # type: ignore[arg-type]  # just looked at
        token = token_hex(16)
        separator, null = f"{SEPARATOR}{token}{SEPARATOR}", f"{NULL}{token}{NULL}"


def unpacked(types: Iterable[str], first: int = 1) -> str:
    """SQL of the arrays, of these element types, for ``unnest``.

    ``first`` is the number of the first of the parameters that `packed` gives.

    An empty text is no array to Postgres, but here one of one empty value.
    """
    split = f"${first}, ${first + 1}"
    return ", ".join(
        f"(case ${n} when '' then array[''] else string_to_array(${n}, {split}) end)::{kind}[]"
        for n, kind in enumerate(types, first + 2)
    )


def _texts(values: Sequence[Any]) -> Sequence[str | None]:
    kinds = set(map(type, values))
    if kinds == _TEXT:
        return values
    if kinds == _WHOLE:
        return list(map(str, values))
    return [None if value is None else as_text(value) for value in values]


def _joined(values: Sequence[str | None], separator: str, null: str) -> str | None:
    """The values as one text; None where a value has the separator or the marker in it."""
    nulls = 0
    try:
        text = separator.join(values)  # type: ignore[arg-type]  # where one is None it raises
    except TypeError:
        nulls = values.count(None)
        text = separator.join([null if value is None else value for value in values])
    unique = text.count(separator) == len(values) - 1 and text.count(null) == nulls
    return text if unique else None
