"""The forms of a log record: lines for people, lines for systemd's journal, JSON for programs."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from pipeline.contracts.log_events import ATTRIBUTE

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Levels and the syslog priorities that systemd takes (sd-daemon(3)); what is lower is 7."""


def priority(level: int) -> int:
    """The syslog priority of a level."""
    return next((number for known, number in PRIORITIES if level >= known), 7)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that a log call gave along: see `pipeline.contracts.log_events`."""
    facts: dict[str, Any] = getattr(record, ATTRIBUTE, {})
    return facts


class LineFormatter(logging.Formatter):
    """Time, level, logger and message; further lines indented."""

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = lines_of(self, record)
        return "\n".join([f"{_time(record)} {record.levelname} {record.name} {first}", *rest])


class JournalLineFormatter(logging.Formatter):
    """Priority, logger and message; each further line needs the priority too."""

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = lines_of(self, record)
        number = priority(record.levelno)
        return "\n".join(f"<{number}>{line}" for line in [f"{record.name} {first}", *rest])


def json_formatter(*, for_journal: bool) -> logging.Formatter:
    """Return what makes one JSON object a line of each record.

    Its keys are ``time``, ``level``, ``logger``, ``message``, the fields of the event, and
    ``traceback`` if there is one. Before it stands the priority where the journal reads the line,
    which takes that off.
    """
    import structlog  # here: only this format needs it, and it takes a while to import

    renderers: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.processors.format_exc_info, _in_order], processors=renderers
    )
    return _WithPriority(formatter) if for_journal else formatter


class _WithPriority(logging.Formatter):
    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return f"<{priority(record.levelno)}>{self._inner.format(record)}"


def _in_order(_: object, __: str, given: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bring what structlog knows of a record into the order of `json_formatter`."""
    record: logging.LogRecord = given["_record"]
    found = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": given["event"],
        **facts_of(record),
    }
    traces = [str(given[key]) for key in ("exception", "stack_info") if key in given]
    if traces:
        found["traceback"] = "\n".join(traces)
    return found | {key: given[key] for key in ("_record", "_from_structlog")}


def lines_of(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The message and what belongs to it (traceback, stack), from the second line on indented."""
    parts = [record.getMessage()]
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    first, *rest = "\n".join(parts).splitlines() or [""]
    return [first, *(f"    {line}" for line in rest)]


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return f"{time.removesuffix('+00:00')}Z"
