"""Moments as an operator writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EXPECTED = (
    "a time such as 2026-05-01T12:00 (UTC unless it says otherwise, as in 12:00+02:00), "
    "or an age such as 90s, 15m, 2h or 3d"
)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_moment(text: str, now: datetime) -> datetime:
    """A moment from ISO 8601, or from an age before ``now``.

    Raises:
        ValueError: it is neither; the message says what is expected.
    """
    if match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip()):
        try:
            return now - timedelta(**{_UNITS[match[2]]: float(match[1])})
        except OverflowError:
            raise ValueError(f"{text!r} is too long ago: expected {EXPECTED}") from None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no moment: expected {EXPECTED}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
