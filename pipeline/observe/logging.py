"""Logs: where they go and in which form: lines, JSON, or fields for systemd's journal."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from pipeline.config.model import LogFormat
from pipeline.observe.condense import Condense
from pipeline.observe.journal import SOCKET, JournalHandler
from pipeline.observe.log_formats import JournalLineFormatter, LineFormatter, json_formatter

QUIET = ("kafka",)
"""Libraries that tell at INFO what is only of use to their own authors."""

REPETITIVE = ("kafka", "pipeline.kafka.client", "pipeline.kafka.offsets", "opentelemetry")
"""Loggers that repeat themselves while Kafka, or who takes spans, is away: the libraries' own, and what
tells of their errors."""

FALSE_ALARMS = (
    ("kafka.coordinator.assignors", "No partition metadata for topic"),
    ("kafka.net.selector", "ran for"),
)
"""What kafka-python warns of in healthy runs: logger and a part of the message.

The assignor does so while the client learns of a topic; the selector, if the operating system gave the
process no time. Both are shown at DEBUG.
"""


def configure_logging(
    level: int | str, form: LogFormat = "auto", *, stream: TextIO | None = None
) -> None:
    """Send every log record to ``stream``, by default stderr, and take away other handlers.

    ``text``: ``2026-11-24T16:00:00.123Z WARNING pipeline.consumer.assignment message``; if the stream is
    the journal, which knows the time, ``<4>pipeline.consumer.assignment message``. A record of several
    lines (a traceback) goes on in indented lines, so that no message can pass for a record of its own.
    ``json``: an object a line. ``journald``: to the journal with its fields, past the stream. ``auto``:
    ``journald`` if the stream is the journal, else ``text``.

    What the loggers in `REPETITIVE` repeat is condensed, unless the level is DEBUG.

    Raises:
        ValueError: there is no such level.
    """
    handler = _handler(form, sys.stderr if stream is None else stream)
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


def _handler(form: LogFormat, stream: TextIO) -> logging.Handler:
    is_journal = _is_journal(stream)
    if form == "journald" or (form == "auto" and is_journal):
        return JournalHandler(stream, SOCKET)
    handler = logging.StreamHandler(stream)
    if form == "json":
        handler.setFormatter(json_formatter(for_journal=is_journal))
    else:
        handler.setFormatter(JournalLineFormatter() if is_journal else LineFormatter())
    return handler


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
