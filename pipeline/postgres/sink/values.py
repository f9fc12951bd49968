"""Values of a document as the sink sends them: parsed where they are compared, text elsewhere.

Each function takes a decoded value that is not None. What it can't take raises ValueError, TypeError
or OverflowError, with a message for the person who reads the dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import msgspec
import orjson

from pipeline.records.rows import Digits

# numeric has at most 131,072 digits before the point and 16,383 after it, so no sum of two needs more.
HIGHEST_EXPONENT, LOWEST_EXPONENT = 131_071, -16_383
EXACT = Context(prec=HIGHEST_EXPONENT - LOWEST_EXPONENT + 2, rounding=ROUND_HALF_UP)
"""Adds without rounding, as Postgres does; Python's default keeps 28 digits."""

_BEYOND_MICROSECONDS = re.compile(r"[.,](\d{7,})")


class Unfit(ValueError):
    """A value that a column can't take.

    Args:
        message: a sentence, in which ``{}`` stands for the value.
        value: the value.
    """

    def __init__(self, message: str, value: Any) -> None:
        super().__init__(message.format(shown(value)))
        self.without_values = message.format(kind_of(value))
        """The same sentence with the value's kind in its place."""


def as_text(value: Any) -> str:
    """What Postgres can cast to whatever the column's type is."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return as_json(value)
    return str(value)


def as_json(value: Any) -> str:
    """JSON, for json and jsonb."""
    try:
        return orjson.dumps(
            value, default=_json_fragment, option=orjson.OPT_PASSTHROUGH_SUBCLASS
        ).decode()
    except orjson.JSONEncodeError:  # a whole number of more than 64 bits
        return msgspec.json.encode(value, enc_hook=_json_raw).decode()


def _json_fragment(value: Any) -> Any:
    return orjson.Fragment(str(value)) if type(value) is Digits else str(value)


def _json_raw(value: Any) -> Any:
    return msgspec.Raw(value.encode()) if type(value) is Digits else str(value)


def json_text(value: Any) -> str | None:
    """JSON as it was produced, where the decoder left it so; None for its null."""
    if type(value) is not msgspec.Raw:
        return as_json(value)
    text = str(value, "utf-8")
    return None if text == "null" else text


decode_json = msgspec.json.Decoder(float_hook=Digits).decode
"""JSON → a value, as records' fields are decoded."""


def json_object(value: Any) -> dict[str, Any]:
    """An object, for the shallow merge."""
    if type(value) is not dict:
        raise Unfit("a jsonb merge needs a JSON object, not {}", value)
    return value


def integer(value: Any) -> int:
    """A whole number; a float is none, as `1.5` is none in an integer column."""
    if type(value) is int:
        return value
    raise Unfit("expected a whole number, not {}", value)


def number(value: Any) -> float:
    """A number of JSON."""
    if type(value) is int or type(value) is float:
        return value
    if type(value) is Digits:
        return finite(value)
    raise Unfit("expected a number, not {}", value)


def whole(value: Any) -> int:
    """A whole number that came as text, in a key or a header."""
    text = str(value)
    if not text.isascii():
        raise Unfit("expected a whole number, not {}", value)
    return int(text)


def boolean(value: Any) -> bool:
    """True or false, nothing that could stand for them."""
    if type(value) is bool:
        return value
    raise Unfit("expected true or false, not {}", value)


def finite(value: Any) -> float:
    """A number written as text. NaN is refused: Python and Postgres order it differently."""
    found = float(value)
    if found != found or found in (float("inf"), float("-inf")):
        raise Unfit("expected a finite number, not {}", value)
    return found


def decimal(value: Any) -> Decimal:
    """A finite number within the limits of ``numeric``."""
    text = str(value)
    if type(value) is bool or not text.isascii():
        raise Unfit("expected a number, not {}", value)
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise Unfit("expected a number, not {}", value) from None
    if not found.is_finite():
        raise Unfit("expected a finite number, not {}", value)
    exponent = found.as_tuple().exponent
    assert isinstance(exponent, int), "a finite number has one"
    if exponent < LOWEST_EXPONENT or found.adjusted() > HIGHEST_EXPONENT:
        raise Unfit("{} is beyond the limits of numeric", value)
    return found


def decimal_of(precision: int, scale: int) -> Callable[[Any], Decimal]:
    """A number as ``numeric(precision, scale)`` stores it: rounded before it is added or compared."""
    unit = Decimal(1).scaleb(-scale)

    def rounded(value: Any) -> Decimal:
        found = decimal(value).quantize(unit, context=EXACT)
        if found and found.adjusted() >= precision - scale:
            raise Unfit(f"{{}} does not fit numeric({precision},{scale})", value)
        return found

    return rounded


def unpadded(value: Any) -> str:
    """Text without the blanks at its end, which don't count in ``char(n)``."""
    return as_text(value).rstrip(" ")


def only_text(value: Any) -> str:
    """Text, for types to which the digits of a number mean something else: bits, an address."""
    if type(value) is not str:
        raise Unfit("expected a text, not {}", value)
    return value


def at_most(size: int) -> Callable[[Any], str]:
    """Text of so many bytes at most, for types that Postgres would cut it to without a word."""

    def fitting(value: Any) -> str:
        text = as_text(value)
        if len(text.encode()) > size:
            raise Unfit(f"{{}} has more than {size} bytes", value)
        return text

    return fitting


def uuid(value: Any) -> str:
    """A UUID, written in the one way that Postgres prints it."""
    return str(UUID(only_text(value)))


def moment(value: Any) -> datetime:
    """A timestamptz; without an offset it is UTC."""
    found = value if isinstance(value, datetime) else _parsed(_to_microseconds, value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def local_time(value: Any) -> datetime:
    """A timestamp without time zone; an offset is ignored, as Postgres does."""
    found = value if isinstance(value, datetime) else _parsed(_to_microseconds, value)
    return found.replace(tzinfo=None)


def day(value: Any) -> date:
    """A date; of a time with a date its date, whatever the offset, as Postgres does."""
    return value.date() if isinstance(value, datetime) else _parsed(_date, value)


def _to_microseconds(text: str) -> datetime:
    """A time rounded to microseconds as Postgres does; Python cuts what is beyond."""
    found = datetime.fromisoformat(text)
    if (beyond := _BEYOND_MICROSECONDS.search(text)) is None:
        return found
    part = Decimal(f"0.{beyond[1]}").scaleb(6)
    rounded = int(part.to_integral_value(ROUND_HALF_EVEN))
    return found + timedelta(microseconds=rounded - found.microsecond)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(text).date()


def _parsed(parse: Callable[[str], Any], value: Any) -> Any:
    if type(value) is not str:
        raise Unfit("expected an ISO 8601 time as text, not {}", value)
    return parse(value)


def kind_of(value: Any) -> str:
    """What a value is, without what it holds."""
    if type(value) is str:
        return f"a text of length {len(value)}"
    kinds: dict[type, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        Digits: "a number",
        dict: "an object",
        list: "a list",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = str(value) if type(value) is Digits else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
