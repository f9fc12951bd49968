"""Logs: a line a record, for a file, a container or systemd's journal."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

from pipeline.observe.condense import Condense

QUIET = ("kafka",)
"""Libraries that tell at INFO what is only of use to their own authors."""

REPETITIVE = ("kafka", "pipeline.kafka.client", "pipeline.kafka.offsets")
"""Loggers that repeat themselves while Kafka is away, the library's and what tells of its errors."""

FALSE_ALARMS = (
    ("kafka.coordinator.assignors", "No partition metadata for topic"),
    ("kafka.net.selector", "ran for"),
)
"""What kafka-python warns of in healthy runs: logger and a part of the message.

The assignor does so while the client learns of a topic; the selector, if the operating system gave the
process no time. Both are shown at DEBUG.
"""

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Levels and the syslog priorities that systemd takes (sd-daemon(3)); what is lower is 7."""


def configure_logging(level: int | str, *, stream: TextIO | None = None) -> None:
    """Send every log record to ``stream``, by default stderr, and take away other handlers.

    ``2026-11-24T16:00:00.123Z WARNING pipeline.consumer.assignment message``; in the journal, which
    knows the time, ``<4>pipeline.consumer.assignment message``. A record of several lines (a
    traceback) goes on in indented lines, so that no message can pass for a record of its own. What
    the loggers in `REPETITIVE` repeat is condensed, unless the level is DEBUG.

    Raises:
        ValueError: there is no such level.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JournalFormatter() if _is_journal(stream) else _LineFormatter())
    logging.basicConfig(
        level=level.upper() if isinstance(level, str) else level, handlers=[handler], force=True
    )
    if logging.getLogger().level > logging.DEBUG:
        handler.addFilter(_is_no_false_alarm)
        handler.addFilter(_without_the_networks_traceback)
        handler.addFilter(Condense(*REPETITIVE))
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.captureWarnings(True)


def _without_the_networks_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback off what kafka-python says of a broken connection: the error says it all."""
    error = record.exc_info[1] if record.exc_info else None
    if record.name.startswith("kafka.") and isinstance(error, OSError):
        record.msg, record.args = f"{record.getMessage()}: {error}", None
        record.exc_info = None
    return True


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Return whether a record is none of `FALSE_ALARMS`."""
    return not any(
        record.name.startswith(logger) and part in str(record.msg) for logger, part in FALSE_ALARMS
    )


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is the very one that systemd connected (``JOURNAL_STREAM``, systemd.exec(5)).

    A child whose stderr goes elsewhere has the variable too.
    """
    connected = os.environ.get("JOURNAL_STREAM")
    if not connected:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return connected == f"{status.st_dev}:{status.st_ino}"


class _LineFormatter(logging.Formatter):
    """Time, level, logger and message; further lines indented."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        first, *rest = _lines(self, record)
        head = f"{time.removesuffix('+00:00')}Z {record.levelname} {record.name} {first}"
        return "\n".join([head, *rest])


class _JournalFormatter(logging.Formatter):
    """Priority, logger and message; each further line needs the priority too."""

    def format(self, record: logging.LogRecord) -> str:
        number = next((n for level, n in PRIORITIES if record.levelno >= level), 7)
        first, *rest = _lines(self, record)
        return "\n".join(f"<{number}>{line}" for line in [f"{record.name} {first}", *rest])


def _lines(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The message and what belongs to it (traceback, stack), from the second line on indented."""
    parts = [record.getMessage()]
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    first, *rest = "\n".join(parts).splitlines() or [""]
    return [first, *(f"    {line}" for line in rest)]
