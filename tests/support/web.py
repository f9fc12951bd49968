"""What tests of the HTTP server share: servers that end with their block, clients of bytes, applications."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio

from pipeline.web.asgi import App, Receive, Scope, Send
from pipeline.web.binding import Binding, Tcp, listen
from pipeline.web.limits import Limits
from pipeline.web.server import Server, serve
from pipeline.web.tls import Tls

ANYWHERE = Tcp("127.0.0.1", 0)


@attrs.frozen
class Served:
    """A server that runs, and how to reach it."""

    server: Server
    address: Any

    @property
    def port(self) -> int:
        """The port, of one that listens on TCP."""
        return int(self.address[1])

    async def open(self) -> trio.SocketStream:
        """Open a connection."""
        if isinstance(self.address, str):
            sock = trio.socket.socket(trio.socket.AF_UNIX)
            await sock.connect(self.address)
            return trio.SocketStream(sock)
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, sent: bytes) -> bytes:
        """Send bytes on a new connection and read to its end."""
        async with await self.open() as stream:
            await stream.send_all(sent)
            return await to_the_end(stream)


@asynccontextmanager
async def served(
    app: App, limits: Limits | None = None, *, binding: Binding = ANYWHERE, tls: Tls | None = None
) -> AsyncIterator[Served]:
    """Serve an application until the block ends, which has 60 s: a hang is a failure."""
    listeners = await listen(binding)
    address = listeners[0].getsockname()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[Server]) -> None:
                await serve(app, listeners, limits, tls=tls, task_status=task_status)

            yield Served(await nursery.start(start), address)
            nursery.cancel_scope.cancel()


async def to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Read until the server closes."""
    parts = []
    try:
        async for part in stream:
            parts.append(bytes(part))
    except trio.BrokenResourceError:
        pass  # closed with something unread
    return b"".join(parts)


async def until(stream: trio.abc.ReceiveStream, expected: bytes) -> bytes:
    """Read until the bytes have come."""
    read = b""
    while expected not in read:
        part = await stream.receive_some()
        assert part, f"the connection ended after {read!r}"
        read += bytes(part)
    return read


def request(path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """Return a request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


CLOSE = "Connection: close"


@attrs.frozen
class Answer:
    """An answer as h11 reads it, and the connection's state after it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def answers(received: bytes, *methods: str) -> list[Answer]:
    """Read all that a server sent by h11, the oracle, as answers to requests of these methods.

    Asserts that nothing is left over, and that the last is complete.
    """
    found = []
    for method in methods or ("GET",):
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "here")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(received)
        head, body = None, b""
        while True:
            event = reader.next_event()
            if isinstance(event, h11.NEED_DATA):
                reader.receive_data(b"")
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
        assert head is not None
        found.append(Answer(head.status_code, dict(head.headers), body))
        received = bytes(reader.trailing_data[0])
    assert received == b""
    return found


async def hello(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with the method and the path, without reading the body."""
    text = f"{scope['method']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body of the request."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
