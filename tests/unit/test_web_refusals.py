"""What the server refuses: one answer, 400 or its like, and the connection is closed after it.

Each case is sent with a good request behind it. A server that misjudged where the case ends would
answer that one too: so the tests count answers.
"""

from __future__ import annotations

import logging
import re

import pytest
import trio

from pipeline.web.limits import Limits
from tests.support.web import CLOSE, answers, echo, request, served

SECOND = request("/second")
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: here\r\n"
HOST = b"Host: here\r\n"
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

HEADS = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a length with a plus": POST + b"Content-Length: +3\r\n\r\nabc",
    "a length with a minus": POST + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": POST + b"Content-Length: \r\n\r\nabc",
    "a length with a gap": POST + b"Content-Length: 1 3\r\n\r\nabc",
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "chunked, chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END,
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END,
    "chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END,
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + END,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END,
    "an empty coding": POST + b"Transfer-Encoding:\r\n\r\n" + END,
    "a coding after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END,
    "a coding before a comma": POST + b"Transfer-Encoding: ,chunked\r\n\r\n" + END,
    "a coding in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + END,
    "a coding on a folded line": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END,
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + END,
    "a folded header": GET + HOST + b"X: a\r\n b\r\n\r\n",
    "a folded first header": GET + b" X: a\r\n" + HOST + b"\r\n",
    "a NUL in a value": GET + HOST + b"X: a\0b\r\n\r\n",
    "a NUL in a name": GET + HOST + b"X\0: a\r\n\r\n",
    "a NUL in the target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control character": GET + HOST + b"X: a\x01b\r\n\r\n",
    "line feeds alone": b"GET / HTTP/1.1\nHost: here\n\n",
    "a line feed alone after the request line": b"GET / HTTP/1.1\nHost: here\r\n\r\n",
    "a line feed alone after a header": GET + b"Host: here\nX: a\r\n\r\n",
    "a line feed alone at the end": GET + HOST + b"\n",
    "a carriage return alone": GET + b"Host: here\rX: a\r\n\r\n",
    "a line feed alone before the request": b"\n" + GET + HOST + b"\r\n",
    "two empty lines before the request": b"\r\n\r\n" + GET + HOST + b"\r\n",
    "no colon": GET + HOST + b"abc\r\n\r\n",
    "an empty name": GET + HOST + b": a\r\n\r\n",
    "a name of other letters": GET + HOST + b"X\xe4: a\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n" + HOST + b"\r\n",
    "HTTP/1.0 with chunks": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + END,
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "RTSP": b"OPTIONS / RTSP/1.1\r\n" + HOST + b"\r\n",
    "a version in small letters": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "two spaces before the target": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces after the target": b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space after the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "a space before the method": b" GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "tabs in the request line": b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method that is none": b"FETCH / HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT here:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target that is no path": b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
    "a star with another method": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /#a HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target of another host": b"GET http://there/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target of another scheme": b"GET ftp://here/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "no Host": GET + b"X: a\r\n\r\n",
    "two Hosts": GET + HOST + HOST + b"\r\n",
    "an empty Host": GET + b"Host:\r\n\r\n",
    "a Host with a slash": GET + b"Host: here/a\r\n\r\n",
    "a Host with a user": GET + b"Host: me@here\r\n\r\n",
    "a Host with a space": GET + b"Host: he re\r\n\r\n",
    "a Host with a bad port": GET + b"Host: here:http\r\n\r\n",
    "a TLS handshake": bytes.fromhex("16030100c8010000c40303") + b"\r\n\r\n",
}  # fmt: skip

BODIES = {
    "a size that is no number": b"g\r\nabc\r\n" + END,
    "a size with 0x": b"0x3\r\nabc\r\n" + END,
    "a size with a minus": b"-3\r\nabc\r\n" + END,
    "a size with a plus": b"+3\r\nabc\r\n" + END,
    "a size with an underscore": b"1_0\r\n0123456789abcdef\r\n" + END,
    "a size after a space": b" 3\r\nabc\r\n" + END,
    "a size before a space": b"3 \r\nabc\r\n" + END,
    "no size": b"\r\nabc\r\n" + END,
    "a size beyond 64 bits": b"10000000000000003\r\nabc\r\n" + END,
    "a line feed alone after the size": b"3\nabc\r\n" + END,
    "a line feed alone in an extension": b"3;a\nb\r\nabc\r\n" + END,
    "a carriage return alone in an extension": b"3;a\rb\r\nabc\r\n" + END,
    "a NUL in an extension": b"3;a\0b\r\nabc\r\n" + END,
    "a line feed alone after the data": b"3\r\nabc\n" + END,
    "a carriage return alone after the data": b"3\r\nabc\r" + END,
    "nothing after the data": b"3\r\nabc" + END,
    "more data than the size": b"3\r\nabcd\r\n" + END,
    "a line feed alone at the end": b"0\n\n",
    "a trailer without a colon": b"0\r\nabc\r\n\r\n",
    "a folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "an endless extension": b"3;" + b"a" * 5_000 + b"\r\nabc\r\n" + END,
}


async def refused(case: bytes, limits: Limits | None = None) -> int:
    """Send a case and a good request behind it; return the status of the one answer."""
    with trio.fail_after(10):
        async with served(echo, limits) as here:
            received = await here.exchange(case + SECOND)
    (answer,) = answers(received, "GET")
    assert answer.headers[b"connection"] == b"close"
    assert answer.headers[b"content-type"] == b"application/problem+json"
    return answer.status


@pytest.mark.parametrize("case", HEADS.values(), ids=HEADS)
async def test_a_malformed_head_gets_400_and_nothing_behind_it_is_answered(case: bytes) -> None:
    assert await refused(case) == 400


@pytest.mark.parametrize("case", BODIES.values(), ids=BODIES)
async def test_a_malformed_body_gets_400_and_nothing_behind_it_is_answered(case: bytes) -> None:
    assert await refused(CHUNKS + case) == 400


@pytest.mark.parametrize("case", [*HEADS.values()], ids=HEADS)
async def test_a_malformed_head_is_refused_however_it_is_cut(case: bytes) -> None:
    """A byte a segment: the parser sees heads that are not whole yet."""
    with trio.fail_after(10):
        async with served(echo) as here, await here.open() as stream:
            try:
                for at in range(len(case)):
                    await stream.send_all(case[at : at + 1])
                await stream.send_all(SECOND)
            except trio.BrokenResourceError:
                pass  # refused and closed before the last byte
            received = b""
            try:
                while part := await stream.receive_some():
                    received += bytes(part)
            except trio.BrokenResourceError:
                pass
    assert len(re.findall(rb"HTTP/1\.1 \d", received)) <= 1
    if received:
        assert received.startswith(b"HTTP/1.1 400 ")


LIMITS = Limits(request_line_bytes=100, header_bytes=200, headers=5, body_bytes=10)


@pytest.mark.parametrize(
    ("case", "status"),
    [
        (request("/" + "a" * 100), 414),
        (b"GET /" + b"a" * 20_000, 414),
        (request("/", "X: " + "a" * 200), 431),
        (GET + b"X: " + b"a" * 20_000, 431),
        (request("/", *["X: a"] * 5), 431),
        (request("/", method="POST", body=b"a" * 11), 413),
        (CHUNKS + b"b\r\n" + b"a" * 11 + b"\r\n" + END, 413),
        (CHUNKS + b"6\r\naaaaaa\r\n" * 2 + END, 413),
        (request("/", "Expect: miracles", method="POST", body=b"a"), 417),
    ],
    ids=["line", "endless line", "headers", "endless header", "many headers", "body", "chunk",
         "chunks", "expectation"],
)  # fmt: skip
async def test_what_is_beyond_a_limit_is_refused_by_its_own_status(
    case: bytes, status: int
) -> None:
    assert await refused(case, LIMITS) == status


async def test_what_is_at_its_limit_is_taken() -> None:
    limits = Limits(body_bytes=10)
    async with served(echo, limits) as here:
        body = b"a" * 10
        sent = request("/", CLOSE, method="POST", body=body)
        (answer,) = answers(await here.exchange(sent), "POST")
    assert (answer.status, answer.body) == (200, body)


async def test_requests_before_a_malformed_one_are_answered_first() -> None:
    async with served(echo) as here:
        received = await here.exchange(request("/a") + HEADS["two lengths"] + SECOND)
    assert [answer.status for answer in answers(received, "GET", "POST")] == [200, 400]


async def test_refusals_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with served(echo) as here:
        for _ in range(3):
            await here.exchange(HEADS["two lengths"])
        tally = here.server.tally
    assert tally.refusals == {"malformed": 3}
    assert caplog.text.count("refused: malformed") == 1
    tally.sum_up(0.0, last=True)
    assert "refused since the line before: malformed 2" in caplog.text
