"""A request's body: read and inflated within limits."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

import attrs
import trio
import zstandard

from pipeline.ingest.problems import refuse
from pipeline.web.asgi import Receive

CHUNK = 64 * 1024
"""A compressed body is inflated in pieces of at most this many bytes; the limit is looked at after each."""

LARGEST_WINDOW = 8 * 1024**2
"""What a zstd frame may have us keep in memory: what every decoder must support (RFC 8878, 3.1.1.1.2)."""

BUSY = 1.0
"""Seconds until another try, where memory is short."""


class ClientGoneError(Exception):
    """The client has gone before its body was complete."""


@attrs.define
class BodyBudget:
    """How many bytes of bodies, inflated ones too, all requests together may hold."""

    most: int
    held: int = 0


class Holding:
    """What one request holds of a budget; to be used with ``with``."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._held = 0

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.held -= self._held

    def take(self, size: int) -> None:
        """Hold more bytes.

        Raises:
            RefusedError: all requests together would hold too many: 503.
        """
        if self._budget.held + size > self._budget.most:
            raise refuse(503, "too many bodies are in memory: try again", BUSY)
        self._budget.held += size
        self._held += size


@lru_cache(maxsize=64)
def encoding_of(value: bytes | None) -> str:
    """Return the name of a Content-Encoding.

    Raises:
        RefusedError: it is none that is known: 415.
    """
    name = (value or b"identity").decode("latin-1").strip().lower() or "identity"
    name = {"x-gzip": "gzip"}.get(name, name)
    if name != "identity" and name not in INFLATES:
        known = ", ".join(INFLATES)
        raise refuse(415, f"the body's Content-Encoding is none of {known}")
    return name


async def read_body(
    receive: Receive, encoding: str, limit: int, length: int | None, holding: Holding
) -> bytes:
    """Read a body, inflated. A checkpoint.

    Args:
        limit: of the bytes, inflated and not.
        length: what Content-Length says.

    Raises:
        RefusedError: it is too large (413), no memory is left (503), or can't be inflated (422).
        ClientGoneError: the rest will not come.
    """
    if length is not None and length > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        holding.take(len(part))
        parts.append(part)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if encoding == "identity":
        return body
    return await _inflated(body, encoding, limit, holding)


async def _inflated(body: bytes, encoding: str, limit: int, holding: Holding) -> bytes:
    """Inflate a body piece by piece, and stop at the limit: a bomb is found out before it goes off."""
    parts: list[bytes] = []
    size = 0
    try:
        for part in INFLATES[encoding](body):
            size += len(part)
            if size > limit:
                raise _too_large(limit, "inflated ")
            holding.take(len(part))
            parts.append(part)
            if not len(parts) % 16:
                await trio.lowlevel.checkpoint()
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise refuse(422, f"the body is no valid {encoding}") from None
    return b"".join(parts)


def _too_large(limit: int, what: str = "") -> Exception:
    return refuse(413, f"the {what}body is larger than {limit} bytes")


def _gunzip(body: bytes) -> Iterator[bytes]:
    """Inflate gzip, of one member or several (RFC 1952, 2.2)."""
    while body:
        inflater = zlib.decompressobj(31)
        yield from _pieces(inflater, body)
        body = inflater.unused_data


def _inflate(body: bytes) -> Iterator[bytes]:
    """Inflate deflate: with zlib's head, as RFC 9110 says, or without it, as some clients send it."""
    headed = len(body) > 1 and body[0] & 15 == 8 and not (body[0] << 8 | body[1]) % 31
    inflater = zlib.decompressobj(15 if headed else -15)
    yield from _pieces(inflater, body)
    if inflater.unused_data:
        raise EOFError


def _pieces(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        part = inflater.decompress(data, CHUNK)
        if part:
            yield part
        data = inflater.unconsumed_tail
        if inflater.eof:
            return
        if not part and not data:
            raise EOFError


def _unzstd(body: bytes) -> Iterator[bytes]:
    """Inflate zstd, of one frame or several.

    The reader can be stopped at the limit, but takes a frame that was cut off for a whole one. So once
    the size is known to be within the limit, another one that can't be stopped looks for the ends.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    with decompressor.stream_reader(io.BytesIO(body), read_across_frames=True) as reader:
        while part := reader.read(CHUNK):
            yield part
    while body:
        frame = decompressor.decompressobj()
        frame.decompress(body)
        if not frame.eof:
            raise EOFError
        body = frame.unused_data


INFLATES: Mapping[str, Callable[[bytes], Iterator[bytes]]] = MappingProxyType(
    {"gzip": _gunzip, "deflate": _inflate, "zstd": _unzstd}
)
