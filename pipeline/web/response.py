"""The head of an answer, as bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from pipeline.web.asgi import AppError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CHUNKS: Final = -1
"""The length of a body that is sent in chunks."""

_STATUS_LINES: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_BODILESS = frozenset((204, 304))


class _Date:
    """The header ``Date``, made anew once a second."""

    second = 0
    line = b""


def date_line() -> bytes:
    """Return the header ``Date`` for now, with its line's end."""
    second = int(time.time())
    if second != _Date.second:
        _Date.second = second
        _Date.line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
    return _Date.line


def has_body(status: int) -> bool:
    """Whether an answer of this status may have a body."""
    return status not in _BODILESS


def encode_head(
    status: int, headers: Iterable[Iterable[bytes]], sized: int, *, close: bool
) -> tuple[bytes, int, bool]:
    """Return the head, the length of the body that it tells, and whether the connection closes.

    Args:
        status: of the answer, 200 to 599.
        headers: the application's; names in lower case. ``transfer-encoding`` is the server's to say.
        sized: the length of the body if the application doesn't say it, or `CHUNKS`.
        close: whether the connection ends with this answer; the application may end it too.

    Raises:
        AppError: a header would break the answer, or the status is none.
    """
    lines = [_STATUS_LINES.get(status) or _status_line(status), date_line()]
    length = None
    for name, value in headers:
        if name == b"content-length":
            length = _length(value, length)
            if status == 204:  # it must not have one (RFC 9110, 8.6)
                continue
        elif name == b"transfer-encoding":
            continue
        elif name == b"connection":
            close = close or b"close" in value.lower()
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    if length is None:
        length = sized
        if not has_body(status):
            length = 0
        elif length == CHUNKS:
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            lines.append(b"content-length: %d\r\n" % length)
    if close:
        lines.append(b"connection: close\r\n")
    count = len(lines)
    lines.append(b"\r\n")
    head = b"".join(lines)
    if head.count(b"\n") != count + 1 or head.count(b"\r") != count + 1 or b"\0" in head:
        raise AppError("a header of the answer holds a line's end or a NUL")
    return head, length, close


def _length(value: bytes, before: int | None) -> int:
    if before is not None or not value.isdigit():
        raise AppError("the answer's content-length is no number, or there are two")
    return int(value)


def _status_line(status: int) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise AppError(f"the application answered with the status {status!r}")
    return f"HTTP/1.1 {status} \r\n".encode()
