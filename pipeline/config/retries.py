"""``[errors.retry]``: for how long a record that failed with an error is tried again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config.kinds import DURATION
from pipeline.config.mistakes import Mistake, describe, did_you_mean, join
from pipeline.config.model import Config
from pipeline.config.reading import Reading

KEY = "errors.retry"
HANDLER_RETRY = "HandlerRetry"

REFUSING = ("0A", "21", "22", "23", "42", "44", "54", "55", "P0", "XX")
"""The classes of SQLSTATE by which a record may be refused."""

PASSING = ("55006", "55P03")
"""States of those classes by which none is."""

_STATE = re.compile("[0-9A-Z]{2}(?:[0-9A-Z]{3})?")


def read_retry(reading: Reading, values: Any) -> dict[str, float]:
    """Read ``"23503" = "10m"`` and its like: SQLSTATE, its class, or `HANDLER_RETRY` → seconds."""
    if not isinstance(values, Mapping):
        reading.wrong(KEY, f"expected a table, not {describe(values)}")
        return {}
    found = {}
    for name, value in values.items():
        place = join(KEY, name)
        if why := _problem(name):
            reading.wrong(place, why)
        elif (seconds := reading.value(DURATION, value, place)) is not None:
            found[name] = seconds
    return found


def _problem(name: str) -> str | None:
    """What is wrong with the name of an error."""
    if name == HANDLER_RETRY:
        return None
    if not _STATE.fullmatch(name):
        hint = did_you_mean(name, [HANDLER_RETRY])
        return f'expected a SQLSTATE such as "23503", its class "23", or {HANDLER_RETRY}{hint}'
    if not name.startswith(REFUSING) or name in PASSING:
        return "has no effect: no record is refused for that; it is tried again without end"
    return None


def check_waiting(config: Config) -> Iterator[Mistake]:
    """What can't be applied waits in lanes, which need a ledger, and a name for whose records wait."""
    errors = config.errors
    if errors.on_reject == "hold-key":
        yield from _lane_mistakes(config, "errors.on_reject", '"hold-key"')
    if errors.retry:
        yield from _lane_mistakes(config, KEY, "it")
    if HANDLER_RETRY in errors.retry and config.sink.handler is None:
        yield Mistake(join(KEY, HANDLER_RETRY), "has no use without sink.handler: leave it out")


def _lane_mistakes(config: Config, key: str, what: str) -> Iterator[Mistake]:
    if not config.pipeline.exactly_once:
        why = f'{what} needs pipeline.delivery "exactly-once": without a ledger nothing can wait'
        yield Mistake(key, why)
    elif len(config.records.keys) > 1 and config.records.tenant is None:
        yield Mistake(
            key,
            f"{what} needs records.tenant where records have several keys: then a tenant's records wait",
        )
