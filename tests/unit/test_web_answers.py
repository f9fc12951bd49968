"""What the server answers: requests one after another on a connection, by real sockets, read by h11."""

from __future__ import annotations

from typing import Any

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pipeline.web.asgi import Receive, Scope, Send
from pipeline.web.limits import Limits
from pipeline.web.response import CHUNKS, encode_head
from tests.support.web import (
    CLOSE,
    answers,
    echo,
    hello,
    request,
    served,
    to_the_end,
    until,
)

START = {"type": "http.response.start", "status": 200, "headers": []}
CHUNKED = "Transfer-Encoding: chunked"


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_requests_of_one_connection_are_answered_one_after_another() -> None:
    async with served(hello) as here, await here.open() as stream:
        for number in range(3):
            await stream.send_all(request(f"/{number}"))
            (answer,) = answers(await until(stream, f"GET /{number}".encode()))
            assert answer.status == 200
            assert b"connection" not in answer.headers
        assert here.server.tally.accepted == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    sent = b"".join(
        [
            request("/a"),
            request("/b", method="POST", body=b"not read"),
            request("/c", CHUNKED, method="POST") + b"3\r\nabc\r\n0\r\n\r\n",
            b"\r\n" + request("/d", method="HEAD"),
            request("/e", CLOSE),
            request("/never"),
        ]
    )
    async with served(echo) as here:
        found = answers(await here.exchange(sent), "GET", "POST", "POST", "HEAD", "GET")
    assert [answer.body for answer in found] == [b"", b"not read", b"abc", b"", b""]


async def test_a_pipelining_client_does_not_starve_the_others() -> None:
    others = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal others
        others += scope["path"] == "/other"
        if scope["path"] == "/last":
            assert others == 1
        await hello(scope, receive, send)

    async with served(app) as here, await here.open() as other, await here.open() as many:
        await other.send_all(request("/warm"))
        await until(other, b"/warm")
        await many.send_all(request("/many") * 200 + request("/last", CLOSE))
        await other.send_all(request("/other"))
        received = await to_the_end(many)
    assert received.count(b"GET /many") == 200
    assert b" 500 " not in received


async def test_a_body_comes_whole_however_it_is_sent() -> None:
    chunked = request("/", CHUNKED, CLOSE, method="POST")
    sent = chunked + b"3;name=value\r\nabc\r\n003\r\ndef\r\n0\r\nTrailer: dropped\r\n\r\n"
    async with served(echo) as here:
        for size in (1, 7, len(sent)):
            async with await here.open() as stream:
                for at in range(0, len(sent), size):
                    await stream.send_all(sent[at : at + size])
                (answer,) = answers(await to_the_end(stream), "POST")
            assert answer.body == b"abcdef"


@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=8), cut=st.integers(1, 400))
def test_what_h11_sends_is_what_the_application_gets(pieces: list[bytes], cut: int) -> None:
    client = h11.Connection(h11.CLIENT)
    head = h11.Request(
        method="POST", target="/",
        headers=[("Host", "here"), ("Transfer-Encoding", "chunked"), ("Connection", "close")],
    )  # fmt: skip
    sent = client.send(head) or b""
    for piece in pieces:
        sent += client.send(h11.Data(data=piece)) or b""
    sent += client.send(h11.EndOfMessage()) or b""

    async def main() -> None:
        async with served(echo) as here, await here.open() as stream:
            for at in range(0, len(sent), cut):
                await stream.send_all(sent[at : at + cut])
            (answer,) = answers(await to_the_end(stream), "POST")
            assert answer.body == b"".join(pieces)

    trio.run(main)


async def test_100_continue_is_sent_when_the_application_asks_for_the_body() -> None:
    head = request("/", "Expect: 100-continue", "Content-Length: 3", CLOSE, method="POST")
    async with served(echo) as here, await here.open() as stream:
        await stream.send_all(head)
        assert await until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"abc")
        (answer,) = answers(await to_the_end(stream), "POST")
        assert answer.body == b"abc"


async def test_no_100_continue_where_the_body_is_not_asked_for() -> None:
    head = request("/", "Expect: 100-continue", "Content-Length: 3", method="POST")
    async with served(hello) as here:
        (answer,) = answers(await here.exchange(head), "POST")
    assert answer.status == 200
    assert answer.headers[b"connection"] == b"close", "nobody knows whether the body will come"


async def test_a_body_that_is_not_read_but_is_there_keeps_the_connection() -> None:
    async with served(hello) as here:
        sent = request("/a", method="POST", body=b"unread") + request("/b", CLOSE)
        found = answers(await here.exchange(sent), "POST", "GET")
    assert [answer.body for answer in found] == [b"POST /a", b"GET /b"]


async def test_a_head_request_gets_the_length_and_no_body() -> None:
    async with served(hello) as here:
        sent = request("/a", method="HEAD") + request("/b", CLOSE)
        head, get = answers(await here.exchange(sent), "HEAD", "GET")
    assert (head.headers[b"content-length"], head.body) == (b"7", b"")
    assert get.body == b"GET /b"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_says_no_length(status: int) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({**START, "status": status})
        await send(body(b"dropped"))

    async with served(app) as here:
        sent = request("/a") + request("/b", CLOSE)
        for answer in answers(await here.exchange(sent), "GET", "GET"):
            assert answer.status == status
            assert b"content-length" not in answer.headers
            assert answer.body == b""


async def test_an_answer_in_pieces_is_chunked() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        for piece in (b"one ", b"", b"two ", b"x" * 100_000):
            await send(body(piece, more=True))
        await send(body(b""))

    async with served(app) as here:
        sent = request("/a") + request("/b", CLOSE)
        first, second = answers(await here.exchange(sent), "GET", "GET")
    assert first.headers[b"transfer-encoding"] == b"chunked"
    assert first.body == second.body == b"one two " + b"x" * 100_000


async def test_what_the_application_sees_of_a_request() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope)
        await hello(scope, receive, send)

    async with served(app) as here:
        await here.exchange(request("/a%20b/%C3%A4?q=%20&r", "X-One: 1 ", CLOSE))
    assert seen["path"] == "/a b/ä"
    assert seen["raw_path"] == b"/a%20b/%C3%A4"
    assert seen["query_string"] == b"q=%20&r"
    assert seen["headers"] == [(b"host", b"here"), (b"x-one", b"1"), (b"connection", b"close")]
    assert (seen["type"], seen["http_version"], seen["scheme"]) == ("http", "1.1", "http")
    assert seen["server"] == ("127.0.0.1", here.port)
    assert seen["client"][0] == "127.0.0.1"


async def test_a_target_with_scheme_and_host_is_taken() -> None:
    async with served(hello) as here:
        sent = b"GET http://HERE/a?b HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        (answer,) = answers(await here.exchange(sent))
    assert answer.body == b"GET /a"


# Applications that fail


@pytest.mark.parametrize("sent_first", [[], [START]], ids=["at once", "after the start"])
async def test_an_application_that_fails_before_it_answers_gets_500_and_one_line(
    sent_first: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/good":
            await hello(scope, receive, send)
            return
        for message in sent_first:
            await send(message)
        raise ValueError("no luck")

    async with served(app) as here:
        sent = request("/bad?secret") + request("/good", CLOSE)
        bad, good = answers(await here.exchange(sent), "GET", "GET")
    assert (bad.status, good.status) == (500, 200)
    assert b"no luck" not in bad.body
    assert caplog.text.count("the application failed at GET /bad\n") == 1
    assert "ValueError: no luck" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [START],
        [body(b"early")],
        [START, START],
        [{**START, "status": 99}, body(b"")],
        [{**START, "headers": [(b"x", b"a\r\nb: c")]}, body(b"")],
        [{**START, "headers": [(b"x\n", b"a")]}, body(b"")],
        [{**START, "headers": [(b"x", b"\0")]}, body(b"")],
        [{**START, "headers": [(b"content-length", b"2")]}, body(b"abc")],
        [{**START, "headers": [(b"content-length", b"4")]}, body(b"abc")],
        [{**START, "headers": [(b"content-length", b"x")]}, body(b"abc")],
        [{**START, "headers": [(b"content-length", b"3")] * 2}, body(b"abc")],
    ],
)
async def test_an_application_against_the_rules_gets_500(
    messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with served(app) as here:
        (answer,) = answers(await here.exchange(request("/", CLOSE)))
        assert here.server.tally.failed == 1
    assert answer.status == 500
    assert caplog.text.count("the application") >= 1


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [
        ([], [b"abc"]),
        ([(b"content-length", b"5")], [b"abc"]),
    ],
    ids=["chunked", "too short"],
)
async def test_an_answer_that_breaks_off_ends_the_connection_and_is_seen_to_be_broken(
    headers: list[tuple[bytes, bytes]], pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({**START, "headers": headers})
        for piece in pieces:
            await send(body(piece, more=True))

    async with served(app) as here:
        received = await here.exchange(request("/a") + request("/b"))
    assert received.count(b"HTTP/1.1 ") == 1
    with pytest.raises(h11.RemoteProtocolError):
        answers(received)
    assert "the application" in caplog.text


@given(
    status=st.sampled_from([200, 202, 204, 304, 404, 429, 503, 599]),
    headers=st.lists(
        st.tuples(st.sampled_from([b"x-a", b"content-type", b"retry-after"]), st.binary(max_size=9))
    ),
    sized=st.sampled_from([CHUNKS, 0, 1]),
    close=st.booleans(),
)
def test_every_head_that_is_sent_is_one_that_h11_reads(
    status: int, headers: list[tuple[bytes, bytes]], sized: int, close: bool
) -> None:
    try:
        head, length, _ = encode_head(status, headers, sized, close=close)
    except RuntimeError:
        assert any(bad in value for _, value in headers for bad in (b"\r", b"\n", b"\0"))
        return
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "here")]))
    reader.receive_data(head)
    try:
        event = reader.next_event()
    except h11.RemoteProtocolError:
        # h11 takes no control characters and no blanks around a value.
        assert any(value.strip() != value or min(value, default=32) < 32 or 127 in value
                   for _, value in headers)  # fmt: skip
        return
    assert isinstance(event, h11.Response)
    assert event.status_code == status
    assert (length == 0) or status not in (204, 304)


# Clients that go


async def test_an_application_that_listens_hears_that_the_client_has_gone() -> None:
    heard = trio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        await send(body(b"data: 1\n\n", more=True))
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    async with served(app) as here:
        stream = await here.open()
        await stream.send_all(request())
        await until(stream, b"data: 1")
        assert not heard.is_set()
        await stream.aclose()
        await heard.wait()


async def test_sending_to_a_client_that_has_gone_raises_and_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised = trio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send(body(b"x" * 1000, more=True))
        except OSError:
            raised.set()
            raise

    async with served(app) as here:
        stream = await here.open()
        await stream.send_all(request())
        await until(stream, b"xxx")
        await stream.aclose()
        await raised.wait()
        assert here.server.tally.failed == 0
    assert caplog.text == ""


async def test_events_of_starlette_flow_and_end_with_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = trio.Event()

    class Events:
        number = 0

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> str:
            await trio.sleep(0.001)
            self.number += 1
            return f"data: {self.number}\n\n"

    async def events(_request: Request) -> StreamingResponse:
        return StreamingResponse(Events(), media_type="text/event-stream")

    starlette = Starlette(routes=[Route("/", events)])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await starlette(scope, receive, send)
        finally:
            ended.set()

    async with served(app) as here:
        stream = await here.open()
        await stream.send_all(request())
        await until(stream, b"data: 3\n")
        await stream.aclose()
        await ended.wait()
    assert caplog.text == ""


async def test_a_request_that_arrives_ahead_while_the_application_listens_is_answered_next() -> (
    None
):
    ahead = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/first":
            await receive()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await ahead.wait()
                await hello(scope, receive, send)
        else:
            await hello(scope, receive, send)

    async with served(app) as here, await here.open() as stream:
        await stream.send_all(request("/first"))
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(request("/second", CLOSE))
        await trio.testing.wait_all_tasks_blocked()
        ahead.set()
        first, second = answers(await to_the_end(stream), "GET", "GET")
    assert (first.body, second.body) == (b"GET /first", b"GET /second")


async def test_a_client_that_only_stops_sending_gets_its_answer() -> None:
    async with served(hello) as here, await here.open() as stream:
        await stream.send_all(request("/a"))
        await stream.send_eof()
        (answer,) = answers(await to_the_end(stream))
    assert answer.body == b"GET /a"


async def test_a_client_that_goes_in_the_middle_of_its_body_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def upload(asked: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await asked.body())))

    app = Starlette(routes=[Route("/", upload, methods=["POST"])])
    async with served(app) as here, await here.open() as stream:
        await stream.send_all(request("/", "Content-Length: 10", method="POST") + b"abc")
        await stream.send_eof()
        assert await to_the_end(stream) == b""
        assert here.server.tally.failed == 0
    assert caplog.text == ""


async def test_the_limits_are_numbers_above_0() -> None:
    with pytest.raises(ValueError, match="body_bytes"):
        Limits(body_bytes=0)
