"""An HTTP/1.1 client for load: requests as bytes, of each answer the status only.

A connection is used again while it is fresh, and a new one is opened whenever none is idle: how many
requests are under way is up to whoever sends them.
"""

from __future__ import annotations

import re

import trio

from bench.harness.open_loop import NO_ANSWER

FRESH_SECONDS = 3.0
"""A connection that was idle for longer is not used again: the server may be closing it."""

MOST_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Client:
    """Sends requests to one address.

    Args:
        host, port: where to.
        give_up: seconds after which a request counts as not answered, from when it was due.
    """

    def __init__(self, host: str, port: int, give_up: float = 10.0) -> None:
        self._address = (host, port)
        self._give_up = give_up
        self._idle: list[tuple[float, trio.socket.SocketType]] = []

    async def send(self, request: bytes, due: float) -> int:
        """Send a request; return the status of its answer, or `NO_ANSWER`. A checkpoint."""
        with trio.move_on_at(due + self._give_up):
            try:
                return await self._sent(request)
            except OSError:
                return NO_ANSWER
        return NO_ANSWER

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _sent(self, request: bytes) -> int:
        connection = await self._connection()
        try:
            while request:
                request = request[await connection.send(request) :]
            status, keep = await _answer(connection)
        except BaseException:
            connection.close()
            raise
        if keep:
            self._idle.append((trio.current_time(), connection))
        else:
            connection.close()
        return status

    async def _connection(self) -> trio.socket.SocketType:
        while self._idle:
            since, connection = self._idle.pop()
            if trio.current_time() - since < FRESH_SECONDS:
                return connection
            connection.close()
        connection = trio.socket.socket()
        try:
            connection.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            await connection.connect(self._address)
        except BaseException:
            connection.close()
            raise
        return connection


async def _answer(connection: trio.socket.SocketType) -> tuple[int, bool]:
    """Read an answer; return its status, and whether the connection may be used again.

    Raises:
        OSError: the connection ended before, or what came is no answer with a length.
    """
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = await connection.recv(MOST_BYTES)
        if not more or len(data) > MOST_BYTES:
            raise ConnectionResetError("no answer")
        data += more
    head = data[:end]
    length = _LENGTH.search(head)
    if length is None:
        raise ConnectionAbortedError("an answer without its length")
    left = int(length[1]) - (len(data) - end - 4)
    while left > 0:
        more = await connection.recv(MOST_BYTES)
        if not more:
            raise ConnectionResetError("half an answer")
        left -= len(more)
    return int(head[9:12]), b"connection: close" not in head.lower()


def post(host: str, path: str, body: bytes, *headers: str) -> bytes:
    """Return a POST of JSON as bytes; ``headers`` as ``"name: value"``."""
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json", *headers]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
