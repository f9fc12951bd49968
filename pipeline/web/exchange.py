"""One request and its answer, as the application sees them: the two functions of ASGI."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import trio

from pipeline.web.asgi import AppError, ClientGoneError, Message
from pipeline.web.head import Request
from pipeline.web.inbound import HEAD_READ, Body
from pipeline.web.link import Link
from pipeline.web.refusal import PROBLEM_HEADERS, RefusedError, problem
from pipeline.web.response import CHUNKS, CONTINUE, LAST_CHUNK, encode_head, has_body

JOINED_BYTES = 65_536
"""Up to this size head and body go out as one; beyond it copying costs more than a second call."""


class Exchange:
    """What the application is given for one request, in the connection's own task.

    Attributes:
        started: whether the answer's head has been sent.
        finished: whether the whole answer has been sent.
        gone: whether the application was told that the client has gone, or met it when it sent.
        failure: what ended the reading of the body, or the sending: a `RefusedError` or an OSError.
        close: whether the connection ends with this answer.
    """

    __slots__ = (
        "_continue", "_headers", "_left", "_link", "_method_is_head", "_receiving",
        "_status", "body", "close", "failure", "finished", "gone", "started",
    )  # fmt: skip

    def __init__(self, link: Link, request: Request, body: Body | None) -> None:
        self._link = link
        self._method_is_head = request.method == "HEAD"
        self._continue = request.expects_continue
        self._status = 0
        self._headers: Iterable[Iterable[bytes]] = ()
        self._left = 0  # what is still to be sent of a body whose length was told, or CHUNKS
        self._receiving: trio.CancelScope | None = None
        self.body = body
        self.started = False
        self.finished = False
        self.gone = False
        self.failure: RefusedError | OSError | None = None
        self.close = not request.keep_alive

    async def receive(self) -> Message:
        """Return a piece of the body, or ``http.disconnect``: ASGI's ``receive``.

        A checkpoint if it has to wait. After the body it waits until the client goes, or until the
        answer is complete.
        """
        if self.gone or self.finished:
            return {"type": "http.disconnect"}
        body = self.body
        if body is None:
            # No body: the first call says so, any later one waits for the end.
            self.body = _NOTHING
            return {"type": "http.request", "body": b"", "more_body": False}
        if body.complete:
            return await self._disconnected()
        try:
            if self._continue:
                self._continue = False
                if not body.arrived and not self.started:
                    await self._link.transport.send(CONTINUE)
            piece = await body.read()
        except (RefusedError, OSError) as failure:
            self.failure = failure
            self.gone = True
            return {"type": "http.disconnect"}
        more = not body.complete
        if not more:
            self.body = _NOTHING
        return {"type": "http.request", "body": piece, "more_body": more}

    async def _disconnected(self) -> Message:
        """Wait until the client goes or the answer is complete; keep what it sends ahead."""
        inbound = self._link.inbound
        with trio.CancelScope() as self._receiving:
            try:
                while not inbound.ended and len(inbound.rest) < HEAD_READ:
                    await inbound.fill(HEAD_READ)
            except OSError:
                inbound.ended = True
            if not inbound.ended:
                # It sends more than is read ahead: whether it goes is not seen.
                await trio.sleep_forever()
        self._receiving = None
        self.gone = self.gone or not self.finished
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the answer: ASGI's ``send``.

        A checkpoint if more of the body follows, or if the client does not take it at once.

        Raises:
            ClientGoneError: the client has gone, or was cut off.
            AppError: the message does not fit here; the answer is broken off.
        """
        kind = message["type"]
        if self.finished:
            raise AppError(f"{kind} after the end of the answer")
        if kind == "http.response.start" and not self._status:
            self._status = message["status"]
            self._headers = message.get("headers", ())
            return
        if kind != "http.response.body" or not self._status:
            raise AppError(f"{kind} does not fit here")
        if self.failure is not None:
            raise ClientGoneError("the client has gone, or was cut off")
        more = message.get("more_body", False)
        head, data = self._encoded(message.get("body", b""), more)
        transport = self._link.transport
        try:
            if head and len(data) > JOINED_BYTES:
                await transport.send(head)
                await transport.send(data)
            elif head or data:
                await transport.send(head + data)
        except OSError as problem:
            self.failure = problem
            self.gone = True
            raise ClientGoneError("the client has gone") from problem
        if more:
            await trio.lowlevel.checkpoint()

    def _encoded(self, body: bytes, more: bool) -> tuple[bytes, bytes]:
        """Return the head, unless it has been sent, and a piece of the body as it is sent."""
        head = b"" if self.started else self._begin(CHUNKS if more else len(body))
        try:
            data = self._framed(body, more)
        except AppError:
            self.close = True
            raise
        self.started = True
        if not more:
            self.finished = True
            if self._receiving is not None:
                self._receiving.cancel()
        return head, data

    def _begin(self, sized: int) -> bytes:
        """Make the head. What the client still sends of its request won't be read: so it closes."""
        body = self.body
        left = body is not None and not body.skip()
        close = self.close or left or self._link.draining
        head, length, self.close = encode_head(self._status, self._headers, sized, close=close)
        self._left = length
        return head

    def _framed(self, body: bytes, more: bool) -> bytes:
        """Return a piece of the body as it is sent, and count it."""
        if self._method_is_head or not has_body(self._status):
            return b""
        if self._left == len(body) and not more:
            return body
        if self._left == CHUNKS:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more else chunk + LAST_CHUNK
        self._left -= len(body)
        if self._left < 0 or (self._left and not more):
            raise AppError("the body is not as long as the answer's content-length")
        return body

    async def fail(self) -> None:
        """Answer 500 in place of an application that failed before it answered."""
        self._status, self._headers = 500, PROBLEM_HEADERS
        answer = problem(500, "the server failed; its log says why")
        with suppress(ClientGoneError):
            await self.send({"type": "http.response.body", "body": answer})

    @property
    def unread(self) -> bool:
        """Whether a part of the request's body has not been read."""
        return self.body is not None and not self.body.complete


class _Nothing:
    """The body of a request whose body has been handed over."""

    complete = True
    arrived = False

    def skip(self) -> bool:
        return True


_NOTHING: Any = _Nothing()
