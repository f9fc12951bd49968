"""Times and ages as an operator writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EXPECTED = (
    "a time such as 2026-05-01T12:00 (UTC unless it names another zone, as in 12:00+02:00), "
    "or an age such as 90s, 15m, 2h or 3d"
)

LONGEST_DAYS = 3650

EXPECTED_SPAN = f"a duration such as 90s, 15m, 2h or 3d, of {LONGEST_DAYS}d at most"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_span(text: str) -> float:
    """Return the seconds of a duration, at most `LONGEST_DAYS` days.

    Raises:
        ValueError: the text is none, or is 0, or too long; the message says what is expected.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip())
    longest = LONGEST_DAYS * 24 * 3600
    seconds = 0.0 if match is None else float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= longest:
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
