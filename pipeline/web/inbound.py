"""What a client sends, cut into heads and bodies; and how long it may take for that.

A body is read only when the application asks for it, so a client that sends more than is asked for is
slowed down by TCP. Its framing is the head's alone: a length, or chunks. Chunks are read here and not by
llhttp, which can't be stopped where a message ends.
"""

from __future__ import annotations

import re

import trio

from pipeline.web.head import CHUNKED, HeadParser, Request, body_too_large, unfinished
from pipeline.web.limits import Limits
from pipeline.web.refusal import BAD_BODY, SLOW_BODY, RefusedError, malformed
from pipeline.web.transport import Transport

HEAD_READ = 16_384
BODY_READ = 65_536
LONGEST_CHUNK_LINE = 1_024
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class Inbound:
    """The bytes of one connection that have arrived and belong to no request yet."""

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self._transport = transport
        self._limits = limits
        self._parser = HeadParser(limits)
        self._passed_over = 0  # empty lines before the next request
        self.rest = b""
        self.ended = False

    async def fill(self, size: int) -> bool:
        """Wait for more; return whether there is any. A checkpoint; cancelling loses nothing.

        Raises:
            OSError: the connection is broken.
        """
        data = await self._transport.receive(size)
        if data:
            self.rest = self.rest + data if self.rest else data
        else:
            self.ended = True
        return not self.ended

    def head(self) -> Request | None:
        """Take the next request's head, if it is there whole. Not a checkpoint.

        Raises:
            RefusedError: it is malformed, or larger than allowed.
        """
        rest = self.rest
        if not rest:
            return None
        end = rest.find(b"\r\n\r\n")
        if end == 0 or rest.startswith(b"\r\n"):
            return self._after_an_empty_line()
        if end < 0:
            refused = unfinished(rest, self._limits)
            if refused is not None:
                raise refused
            return None
        end += 4
        self._passed_over = 0
        if end == len(rest):
            self.rest = b""
            return self._parser.parse(rest)
        self.rest = rest[end:]
        return self._parser.parse(rest[:end])

    def _after_an_empty_line(self) -> Request | None:
        """One empty line before a request is passed over (RFC 9112, 2.2)."""
        self.rest = self.rest[2:]
        self._passed_over += 1
        if self._passed_over > 1 or self.rest.startswith(b"\r"):
            raise malformed("empty lines before the request")
        return self.head()

    def body(self, request: Request) -> Body:
        """Return the reader of a request's body."""
        if request.length == CHUNKED:
            return ChunkedBody(self, self._limits)
        return SizedBody(self, self._limits, request.length)


class Body:
    """A request's body, read piece by piece.

    Attributes:
        complete: whether all of it has been read.
    """

    def __init__(self, inbound: Inbound, limits: Limits) -> None:
        self._inbound = inbound
        self._limits = limits
        self._taken = 0
        self._since = trio.current_time()
        self.complete = False

    @property
    def arrived(self) -> bool:
        """Whether anything that may belong to the body has arrived and not been read."""
        return bool(self._inbound.rest)

    def skip(self) -> bool:
        """Drop the body if all of it has arrived; return whether it is complete now."""
        return self.complete

    async def read(self) -> bytes:
        """Return the next piece. A checkpoint if it has to be waited for.

        Raises:
            RefusedError: the body is malformed, too large, or too slow.
            OSError: the client has gone.
        """
        raise NotImplementedError

    async def _more(self, size: int = HEAD_READ) -> None:
        """Wait for more bytes, for as long as the body may take."""
        limits = self._limits
        due = self._since + limits.body_seconds + self._taken / limits.slowest_bytes_per_second
        with trio.move_on_at(due) as scope:
            if not await self._inbound.fill(size):
                raise ConnectionResetError("the client went in the middle of a request")
        if scope.cancelled_caught:
            raise RefusedError(408, SLOW_BODY, "the body did not arrive in time")


class SizedBody(Body):
    """A body whose length was told."""

    def __init__(self, inbound: Inbound, limits: Limits, length: int) -> None:
        super().__init__(inbound, limits)
        self._left = length
        self.complete = not length

    def skip(self) -> bool:
        inbound = self._inbound
        if len(inbound.rest) >= self._left:
            inbound.rest = inbound.rest[self._left :]
            self._left = 0
            self.complete = True
        return self.complete

    async def read(self) -> bytes:
        inbound = self._inbound
        if not self._left:
            return b""
        if not inbound.rest:
            await self._more(BODY_READ)
        rest = inbound.rest
        piece, inbound.rest = rest[: self._left], rest[self._left :]
        self._taken += len(piece)
        self._left -= len(piece)
        self.complete = not self._left
        return piece


class ChunkedBody(Body):
    """A body in chunks; their extensions, and the trailers, are checked and dropped."""

    def __init__(self, inbound: Inbound, limits: Limits) -> None:
        super().__init__(inbound, limits)
        self._chunk = 0  # what is left of the chunk that is being read
        self._trailers = 0
        self._extensions = 0

    async def read(self) -> bytes:
        pieces: list[bytes] = []
        while not self.complete:
            if self._chunk:
                if not self._inbound.rest:
                    if pieces:
                        break
                    # Small reads for small chunks: each is cut off the front of what was read.
                    await self._more(BODY_READ if self._chunk > HEAD_READ else HEAD_READ)
                pieces.append(await self._of_chunk())
            elif pieces and b"\r\n" not in self._inbound.rest:
                break
            else:
                await self._next_chunk()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _of_chunk(self) -> bytes:
        """Take what is there of the chunk, and the line's end after it."""
        inbound = self._inbound
        piece, inbound.rest = inbound.rest[: self._chunk], inbound.rest[self._chunk :]
        self._chunk -= len(piece)
        self._taken += len(piece)
        if not self._chunk:
            while len(inbound.rest) < 2 and b"\r\n".startswith(inbound.rest):
                await self._more()
            if not inbound.rest.startswith(b"\r\n"):
                raise _bad_body("a chunk is longer than it says")
            inbound.rest = inbound.rest[2:]
        return piece

    async def _next_chunk(self) -> None:
        """Read the line that begins a chunk; after the last one, the trailers."""
        line = await self._line()
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise _bad_body("a malformed chunk size")
        self._chunk = int(found[1], 16)
        self._extensions += len(line) - len(found[1])
        if self._extensions > self._limits.header_bytes:
            raise _bad_body("the chunk extensions are too large")
        if self._taken + self._chunk > self._limits.body_bytes:
            raise body_too_large(self._limits)
        if not self._chunk:
            await self._read_trailers()
            self.complete = True

    async def _read_trailers(self) -> None:
        while line := await self._line():
            self._trailers += len(line)
            if self._trailers > self._limits.header_bytes or not _TRAILER.fullmatch(line):
                raise _bad_body("malformed trailers, or too many")

    async def _line(self) -> bytes:
        """Take a line, without its end; a bare line feed is part of it, and so refused."""
        inbound = self._inbound
        while (end := inbound.rest.find(b"\r\n")) < 0:
            if len(inbound.rest) > LONGEST_CHUNK_LINE or b"\n" in inbound.rest:
                raise _bad_body("a malformed line between chunks")
            await self._more()
        if end > LONGEST_CHUNK_LINE:
            raise _bad_body("a line between chunks is too long")
        line, inbound.rest = inbound.rest[:end], inbound.rest[end + 2 :]
        return line


def _bad_body(detail: str) -> RefusedError:
    return RefusedError(400, BAD_BODY, detail)
