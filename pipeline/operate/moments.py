"""Times and ages as an operator writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EXPECTED = (
    "a time such as 2026-05-01T12:00 (UTC unless it names another zone, as in 12:00+02:00), "
    "or an age such as 90s, 15m, 2h or 3d"
)

EXPECTED_SPAN = "a duration such as 90s, 15m, 2h or 3d"

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_span(text: str) -> float:
    """Return the seconds of a duration.

    Raises:
        ValueError: the text is none, or is 0; the message says what is expected.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip())
    try:
        seconds = (
            0.0
            if match is None
            else timedelta(**{_UNITS[match[2]]: float(match[1])}).total_seconds()
        )
    except OverflowError:
        seconds = 0.0
    if not seconds:
        raise ValueError(f"{text!r} is not a valid duration: expected {EXPECTED_SPAN}")
    return seconds


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the moment that an ISO 8601 time, or an age before ``now``, stands for.

    Raises:
        ValueError: the text is neither; the message says what is expected.
    """
    if match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip()):
        try:
            return now - timedelta(**{_UNITS[match[2]]: float(match[1])})
        except OverflowError:
            raise ValueError(f"{text!r} is too long ago: expected {EXPECTED}") from None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a valid time: expected {EXPECTED}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
