"""The server: it accepts connections, watches their time-outs, and drains.

The tasks, and their lifetimes::

    serve
    ├── clock            ends connections that have waited too long for a request
    └── for each listening socket: accept
        └── connection … one a client; the application runs in it

A connection has no cancel scope and no timer per request: it writes down until when it waits, and the
clock looks once a second. That costs nothing per request, and a time-out may come a second late.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

import trio

from pipeline.web.asgi import VERSION, App
from pipeline.web.binding import BACKLOG
from pipeline.web.connection import Connection
from pipeline.web.limits import Limits
from pipeline.web.link import Link
from pipeline.web.refusal import NO_ROOM, NO_TLS
from pipeline.web.tally import Tally
from pipeline.web.tls import Tls
from pipeline.web.transport import SocketTransport, TlsTransport, Transport

Client = tuple[str, int | None] | None
Start = Callable[[socket.socket, Client], None]

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
ACCEPTED_AT_ONCE = 64
GRACE_SECONDS = 1.0
"""How long a new connection may take, in a drain, to send the request that it was opened for."""
PAUSE_SECONDS = 0.1
"""How long no connection is accepted after the system had no more descriptors or memory."""

_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """A running server; `serve` gives it to its starter.

    Attributes:
        app: the application.
        limits: what clients may ask of it.
        tally: what it has counted.
        draining: whether it accepts no more and closes each connection after its answer.
        connections: those that are open, the oldest first.
    """

    def __init__(self, app: App, limits: Limits, tls: Tls | None) -> None:
        self.app = app
        self.limits = limits
        self.tls = tls
        self.tally = Tally()
        self.draining = False
        scheme = "http" if tls is None else "https"
        self._scope = {
            "type": "http", "asgi": VERSION, "http_version": "1.1", "root_path": "", "scheme": scheme,
        }  # fmt: skip
        self.connections: dict[Connection, None] = {}
        self._open = 0  # connections, those too that are at the handshake of TLS
        self._accepting = trio.CancelScope()
        self._everything = trio.CancelScope()
        self._opened = trio.Event()
        self._closed = trio.Event()

    def drain(self, seconds: float) -> None:
        """Accept no more, let requests finish, and end: after ``seconds`` at the latest.

        What was not answered by then is cancelled, counted and told. Not a checkpoint; a second call
        can only shorten the time.
        """
        self.draining = True
        now = trio.current_time()
        self._everything.deadline = min(self._everything.deadline, now + seconds)
        self._accepting.cancel()
        for connection in self.connections:
            connection.drain(now + GRACE_SECONDS)

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Accept and answer until a drain is complete; cancelling ends all connections at once."""
        with self._everything:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._clock)
                async with trio.open_nursery() as connections:
                    for listener in listeners:
                        connections.start_soon(self._accept, listener, connections)
                nursery.cancel_scope.cancel()
        self.tally.sum_up(trio.current_time(), last=True)
        if self._everything.cancelled_caught:
            cut = self.tally.cut_off
            log.warning(
                "the drain's time is over: %d request%s cut off",
                cut,
                " was" if cut == 1 else "s were",
            )

    async def _clock(self) -> None:
        """End connections that have waited too long for a request; none open, it sleeps."""
        limits = self.limits
        tick = min(TICK_SECONDS, limits.head_seconds / 4, limits.idle_seconds / 4)
        while True:
            if not self.connections:
                self._opened = trio.Event()
                await self._opened.wait()
            await trio.sleep(tick)
            now = trio.current_time()
            for connection in self.connections:
                if connection.due <= now:
                    connection.dismiss()
            self.tally.sum_up(now)

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Accept connections of one listening socket until the drain; then those that wait in it."""
        address = _address(listener.getsockname())

        def start(sock: socket.socket, client: Client) -> None:
            nursery.start_soon(self._serve, sock, client, address)

        with self._accepting:
            while True:
                await trio.lowlevel.wait_readable(listener)
                await self._make_room()
                for _ in range(ACCEPTED_AT_ONCE):
                    if not await self._accept_one(listener, start) or self._full:
                        break
        for _ in range(BACKLOG):
            if not await self._accept_one(listener, start):
                break
        _close(listener)  # now, so that the kernel sends nobody here any more

    async def _accept_one(self, listener: socket.socket, start: Start) -> bool:
        """Accept a connection and start its task; return whether there was one."""
        try:
            sock, client = listener.accept()
        except BlockingIOError:
            return False
        except OSError as problem:
            if problem.errno in _SHORT_OF:
                self.tally.refused("no descriptors or memory", problem.strerror or "")
                await trio.sleep(PAUSE_SECONDS)
            return problem.errno not in _SHORT_OF
        sock.setblocking(False)
        self.tally.accepted += 1
        self._open += 1
        start(sock, _address(client))
        return True

    @property
    def _full(self) -> bool:
        return self._open >= self.limits.connections

    async def _make_room(self) -> None:
        """Wait until another connection may be open; one that waits for a request makes room."""
        while self._full:
            for connection in self.connections:
                if connection.waiting and not connection.link.draining:
                    self.tally.refused(NO_ROOM, f"{self.limits.connections} are open")
                    connection.dismiss()
                    break
            self._closed = trio.Event()
            await self._closed.wait()

    async def _serve(self, sock: socket.socket, client: Client, address: Client) -> None:
        try:
            transport = await self._transport(sock)
            if transport is not None:
                await self._run(transport, client, address)
        except Exception:  # a mistake of this server's own: it ends one connection, not the program
            log.exception("the HTTP server failed, and has closed a connection")
        finally:
            self._open -= 1
            self._closed.set()

    async def _run(self, transport: Transport, client: Client, address: Client) -> None:
        link = Link(transport, self.limits)
        scope = {**self._scope, "client": client, "server": address}
        connection = Connection(self.app, self.limits, self.tally, link, scope)
        if self.draining:
            connection.drain(trio.current_time() + GRACE_SECONDS)
        self.connections[connection] = None
        self._opened.set()
        try:
            await connection.run()
        finally:
            del self.connections[connection]

    async def _transport(self, sock: socket.socket) -> Transport | None:
        """Return what carries the connection's bytes; None if TLS was not agreed on."""
        if self.tls is None:
            return SocketTransport(sock, self.limits)
        transport = TlsTransport(sock, self.limits, self.tls.context)
        try:
            with trio.fail_after(self.limits.head_seconds):
                await transport.handshake()
        except (OSError, trio.TooSlowError) as problem:
            self.tally.refused(NO_TLS, str(problem) or "too slow")
            transport.close()
            return None
        except BaseException:
            transport.close()
            raise
        return transport


async def serve(
    app: App,
    listeners: Sequence[socket.socket],
    limits: Limits | None = None,
    *,
    tls: Tls | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until a drain is complete; for ``nursery.start``, which gives the `Server`.

    Cancelling ends all connections at once. What the application raises ends its request, with a 500,
    and is logged.

    Args:
        app: an ASGI 3 application. Its lifespan is not run.
        listeners: of `pipeline.web.binding.listen`; they are closed at the end.
        limits: by default `Limits`.
        tls: the certificate; None: plain HTTP.
        task_status: gets the server once it accepts.
    """
    server = Server(app, limits or Limits(), tls)
    try:
        task_status.started(server)
        await server.run(listeners)
    finally:
        for listener in listeners:
            _close(listener)


def _close(listener: socket.socket) -> None:
    if listener.fileno() >= 0:  # not closed yet
        trio.lowlevel.notify_closing(listener)
        listener.close()


def _address(found: Any) -> Client:
    """Return host and port, as ASGI has them; of a unix socket the path, if it has one."""
    if isinstance(found, tuple):
        return found[0], found[1]
    return (found, None) if found else None
