"""A small HTTP client: one GET, one answer, for what instances ask each other.

Plain HTTP/1.1 over a connection of its own; no redirects, no proxies. The answer's size is bounded here,
its time by whoever asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import httptools
import trio
from attrs import define, field, frozen

MAX_BYTES = 8 * 1024**2
"""Of an answer: the state of some ten thousand partitions."""

READ_BYTES = 65_536


class NoAnswerError(OSError):
    """There was no answer over HTTP; the message says why."""


@frozen
class Answer:
    """A status and a body."""

    status: int
    body: bytes


@define
class _Reading:
    """What httptools calls while it reads."""

    body: bytearray = field(factory=bytearray)
    complete: bool = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


async def get(host: str, port: int, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Ask once, and return the answer. A checkpoint; cancelled, the connection is closed.

    Raises:
        NoAnswerError: it can't be connected to, ends early, or answers too much, or not by HTTP.
    """
    shown = f"[{host}]" if ":" in host else host
    lines = {"Host": f"{shown}:{port}", "Connection": "close", **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    try:
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
            return await _read(stream)
    except (trio.BrokenResourceError, OSError) as error:
        raise NoAnswerError(_why(error)) from error


async def _read(stream: trio.SocketStream) -> Answer:
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    while not reading.complete:
        data = await stream.receive_some(READ_BYTES)
        if not data:
            raise NoAnswerError("the connection ended before the answer did")
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise NoAnswerError("what answers does not speak HTTP") from error
        if len(reading.body) > MAX_BYTES:
            raise NoAnswerError(f"the answer has more than {MAX_BYTES:,} bytes")
    return Answer(parser.get_status_code(), bytes(reading.body))


def _why(error: Exception) -> str:
    if isinstance(error, NoAnswerError):
        return str(error)
    if isinstance(error, trio.BrokenResourceError):
        return "the connection broke"
    number = _number(error)
    return (str(error) if number is None else os.strerror(number)).lower()


def _number(error: BaseException | None) -> int | None:
    """What the system said, wherever Trio has it: it may have tried several addresses."""
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None or (isinstance(error, OSError) and (error.errno or 0) < 0):
        return None
    return (error.errno if isinstance(error, OSError) else None) or _number(error.__cause__)
