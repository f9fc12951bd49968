"""The head of an answer, as bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

from pipeline.web.asgi import AppError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CHUNKS: Final = -1
"""The length of a body that is sent in chunks."""

_STATUS_LINES: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CHUNKED = b"transfer-encoding: chunked\r\n"
_CLOSE = b"connection: close\r\n"
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
    pairs: tuple[Any, ...] = tuple(headers)
    try:
        block, length, closes = _block(status, pairs)
    except TypeError:  # not hashable: lists in place of tuples
        pairs = tuple((bytes(name), bytes(value)) for name, value in pairs)
        block, length, closes = _block(status, pairs)
    framing = b""
    if not has_body(status):
        length = 0
    elif length is None:
        length = sized
        framing = _CHUNKED if sized == CHUNKS else b"content-length: %d\r\n" % sized
    if close or closes:
        return b"".join((block, date_line(), framing, _CLOSE, b"\r\n")), length, True
    return b"".join((block, date_line(), framing, b"\r\n")), length, False


@lru_cache(maxsize=1_024)
def _block(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, int | None, bool]:
    """Return status line and headers, the length that they tell, and whether they say ``close``.

    Kept, since an application gives the same ones again and again.
    """
    lines = [_STATUS_LINES.get(status) or _status_line(status)]
    length, close = None, False
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
    block = b"".join(lines)
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines) or b"\0" in block:
        raise AppError("a header of the answer holds a line's end or a NUL")
    return block, length, close


def _length(value: bytes, before: int | None) -> int:
    if before is not None or not value.isdigit():
        raise AppError("the answer's content-length is no number, or there are two")
    return int(value)


def _status_line(status: int) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise AppError(f"the application answered with the status {status!r}")
    return f"HTTP/1.1 {status} \r\n".encode()
