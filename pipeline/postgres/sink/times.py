"""Times of a document: text as it is, numbers only by a unit that the configuration names.

Postgres takes a number for the digits of a date: epoch seconds become the year 173262. So numbers, and
text of digits that is no ISO 8601 date, are refused unless the column says what they count. What Postgres
would evaluate when it is written (``now``, ``today``) is refused too: a replay would give something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import Any

from pipeline.postgres.sink.values import Unfit, as_text
from pipeline.records.rows import Digits

SINCE_EPOCH = frozenset({"timestamptz", "timestamp", "date"})
SINCE_MIDNIGHT = "time"
TIMES = SINCE_EPOCH | {SINCE_MIDNIGHT, "timetz", "interval"}
"""The types that this file is about, by their names in the catalog."""

WITH_UNIT = TIMES - {"timetz"}
"""Those that a number can be, given its unit: since 1970, since midnight, or a length."""

SECONDS = {
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "ns": Decimal("1e-9"),
    "days": Decimal(86_400),
}
"""Seconds in a unit."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = Decimal(86_400)
_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.\d*)?\s*")
_LONG = re.compile(r"\s*[+-]?(\d{7,})")
_EVALUATED = re.compile(r"\b(now|today|tomorrow|yesterday)\b", re.IGNORECASE)


def time_text(value: Any, digits: tuple[int, ...] = (4, 6)) -> str:
    """A time that was written as text.

    ``digits`` are how many digits alone are a time in ISO 8601: 4 or 6 for a time of day.

    Raises:
        ValueError: it is a number, or its meaning depends on when it is read.
    """
    if type(value) is not str:
        if isinstance(value, datetime):
            return as_text(value)
        raise Unfit(
            "expected a time as text, not {} (a number needs the column's unit, "
            'such as unit = "ms")',
            value,
        )
    if value[4:5] == "-":  # the usual case, 2026-01-31…, looked at in no more detail
        return value
    if _NUMBER.fullmatch(value) and not (value.isdigit() and len(value) in digits):
        raise Unfit(
            '{} is a number, not a time (it needs the column\'s unit, such as unit = "ms")', value
        )
    if _EVALUATED.search(value):
        raise Unfit("{} would mean another time whenever it is read", value)
    return value


def date_text(value: Any) -> str:
    """`time_text` for types with a date, of which 8 digits are one in ISO 8601.

    A number is none because a time zone follows it: Postgres takes ``1732621212Z`` for the year 173262.
    """
    text = time_text(value, (8,))
    if (digits := _LONG.match(text)) is not None and len(digits[1]) not in (8, 14):
        raise Unfit("{} begins with a number that is no date", value)
    return text


@cache
def counted(base: str, unit: str) -> Callable[[Any], str]:
    """Make a function from numbers, in a unit, to text; what is not a number is `time_text`."""
    seconds = SECONDS[unit]

    def text(value: Any) -> str:
        if type(value) is int or type(value) is Digits or type(value) is float:
            number = Decimal(str(value))
        elif type(value) is str and _NUMBER.fullmatch(value):
            number = Decimal(value.strip())
        else:
            return date_text(value) if base in SINCE_EPOCH else time_text(value)
        try:
            return _written(base, number * seconds)
        except (OverflowError, ArithmeticError):
            raise Unfit(f"{{}} {unit} is beyond the times that can be told", value) from None

    return text


def _written(base: str, seconds: Decimal) -> str:
    if base == "interval":
        return f"{seconds:f} seconds"
    if base == SINCE_MIDNIGHT and not 0 <= seconds < _DAY:
        raise OverflowError
    exact = (seconds * 1_000_000).to_integral_value(ROUND_HALF_EVEN)
    if base == SINCE_MIDNIGHT and exact == _DAY * 1_000_000:
        return "24:00:00"  # rounded up to it, as Postgres does
    moment = _EPOCH + timedelta(microseconds=int(exact))
    if base == SINCE_MIDNIGHT:
        return moment.time().isoformat()
    return moment.date().isoformat() if base == "date" else moment.isoformat()
