"""Records for systemd's journal with their fields, by its own protocol.

A datagram to journald's socket: ``KEY=value`` lines, and for a value of several lines the key, eight
bytes of length, the value (systemd's "Native Journal Protocol"). One that is too large for a datagram
goes as a sealed file in memory, whose descriptor is sent.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from pipeline.observe.log_formats import JournalLineFormatter, facts_of, lines_of, priority

SOCKET = "/run/systemd/journal/socket"

IDENTIFIER = "SYSLOG_IDENTIFIER"
"""The variable, and the field, with the name under which ``journalctl`` shows the lines."""


class JournalHandler(logging.Handler):
    """Sends each record to the journal: message, priority, logger, where in the code, the fields.

    Fields are in capitals: ``journalctl SHARD=db0``. A record that the journal does not take is written
    to ``otherwise`` as a line, so that nothing is lost without a trace.
    """

    def __init__(self, otherwise: TextIO, address: str) -> None:
        super().__init__()
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._otherwise = otherwise
        self._lines = JournalLineFormatter()
        self._identifier = os.environ.get(IDENTIFIER, "pipeline")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            try:
                self._send(encoded(self._fields(record)))
            except OSError as error:
                line = self._lines.format(record)
                print(f"{line}\n<4>the journal did not take this: {error}", file=self._otherwise)
                self._otherwise.flush()
        except Exception:  # as every handler of logging: told on standard error, and nothing ends
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        text = "\n".join(lines_of(self._lines, record))
        yield "MESSAGE", f"{record.name} {text}"
        yield "PRIORITY", str(priority(record.levelno))
        yield "SYSLOG_IDENTIFIER", self._identifier
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName or ""
        yield from _in_capitals(facts_of(record))

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.sendto(entry, self._address)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(entry)

    def _send_as_file(self, entry: bytes) -> None:
        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(file), "wb") as writer:
                writer.write(entry)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
            descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file))]
            self._socket.sendmsg([b""], descriptors, 0, self._address)
        finally:
            os.close(file)


def _in_capitals(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A list is a field several times over, as the journal has it."""
    for name, value in facts.items():
        for each in value if isinstance(value, list) else [value]:
            yield name.upper(), str(each)


def encoded(fields: Iterator[tuple[str, str]]) -> bytes:
    """Return fields as one entry of the protocol."""
    parts = []
    for name, text in fields:
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        else:
            parts.append(name.encode() + b"=" + value + b"\n")
    return b"".join(parts)
