"""A client's connection as bytes: plain over a socket, or through TLS.

The plain one works on the socket itself, without Trio's stream around it. What Trio adds there is a
checkpoint a call; here there is one where a request is waited for, and none where an answer goes out at
once, which halves the passes through the scheduler.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from typing import Protocol

import trio

from pipeline.web.limits import Limits

LINGER_SECONDS = 1.0
LINGER_BYTES = 262_144
TLS_PIECE = 65_536


class UnreadError(OSError):
    """The client left an answer unread for too long; its connection is as good as closed."""


class Patience:
    """How long a client may leave an answer unread."""

    def __init__(self, limits: Limits) -> None:
        self._due = trio.current_time() + limits.unread_seconds
        self._rate = limits.slowest_bytes_per_second

    def until(self, taken: int) -> float:
        """Return when it ends (Trio's clock), now that so many bytes have been taken."""
        return self._due + taken / self._rate


def abort(sock: socket.socket) -> None:
    """See to it that closing drops what has not been sent: nobody reads it."""
    with suppress(OSError):  # it may be broken already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Transport(Protocol):
    """Bytes to and from one client. Reading in one task and writing in another is allowed."""

    async def receive(self, size: int) -> bytes:
        """Return what has arrived, at most ``size`` bytes; empty at the end. A checkpoint.

        Raises:
            OSError: the connection is broken.
        """

    def poll(self, size: int) -> bytes:
        """Return what has arrived already, or nothing. No checkpoint."""

    async def send(self, data: bytes) -> None:
        """Send all of it; a checkpoint if that does not work at once. Cancelled: broken.

        Raises:
            OSError: the connection is broken.
        """

    async def linger(self) -> None:
        """Say that no more is sent, and read for up to a second what the client still sends.

        A socket that is closed with unread bytes resets the connection, and the last answer may be lost.
        """

    def close(self) -> None:
        """Close at once. What the kernel has taken is still sent. Not a checkpoint."""


class SocketTransport:
    """Plain bytes over a socket that does not block."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits

    async def receive(self, size: int) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                return self._sock.recv(size)
            except (BlockingIOError, InterruptedError):
                continue  # woken for nothing

    def poll(self, size: int) -> bytes:
        try:
            return self._sock.recv(size)
        except OSError:
            return b""  # nothing there, or broken: the next call tells

    async def send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent != len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, rest: memoryview) -> None:
        patience, began = Patience(self._limits), len(rest)
        while rest:
            with trio.move_on_at(patience.until(began - len(rest))):
                await trio.lowlevel.wait_writable(self._sock)
                with suppress(BlockingIOError, InterruptedError):  # woken for nothing
                    rest = rest[self._sock.send(rest) :]
                continue
            abort(self._sock)
            raise UnreadError("the answer was left unread")

    async def linger(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)
        await _read_out(self)

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


class TlsTransport:
    """Bytes through TLS, by Trio's stream."""

    def __init__(self, sock: socket.socket, limits: Limits, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._limits = limits
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)

    async def handshake(self) -> None:
        """Agree on keys. A checkpoint.

        Raises:
            OSError: the client does not speak TLS, or not acceptably.
        """
        try:
            await self._stream.do_handshake()
        except trio.BrokenResourceError as problem:
            raise ConnectionResetError(str(problem.__cause__ or problem)) from problem

    async def receive(self, size: int) -> bytes:
        try:
            return bytes(await self._stream.receive_some(size))
        except trio.BrokenResourceError as problem:
            raise ConnectionResetError("the connection is broken") from problem

    def poll(self, size: int) -> bytes:  # noqa: ARG002 - TLS can't be asked without waiting
        return b""

    async def send(self, data: bytes) -> None:
        patience = Patience(self._limits)
        for start in range(0, len(data), TLS_PIECE):
            with trio.move_on_at(patience.until(start)):
                try:
                    await self._stream.send_all(data[start : start + TLS_PIECE])
                except trio.BrokenResourceError as problem:
                    raise BrokenPipeError("the connection is broken") from problem
                continue
            abort(self._sock)
            raise UnreadError("the answer was left unread")

    async def linger(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)
        await _read_out(self)

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


async def _read_out(transport: Transport) -> None:
    """Read and drop what still comes, within bounds of time and size."""
    left = LINGER_BYTES
    with trio.move_on_after(LINGER_SECONDS):
        while left > 0:
            data = await transport.receive(65_536)
            if not data:
                break
            left -= len(data)
