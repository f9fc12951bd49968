"""Time-outs, limits on connections, and drains: virtual time, real sockets.

The clock is an argument, since only as such pytest-trio runs a test by it.
"""

# ruff: noqa: ARG001

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from pipeline.web.asgi import Receive, Scope, Send
from pipeline.web.limits import Limits
from tests.support.web import (
    CLOSE,
    Served,
    answers,
    echo,
    hello,
    request,
    served,
    to_the_end,
    until,
)


@asynccontextmanager
async def many(here: Served, count: int) -> AsyncIterator[list[trio.SocketStream]]:
    """So many open connections."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await here.open()) for _ in range(count)]


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time that passes when all have to wait; real sockets get a moment to deliver."""
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock


async def seconds_to_the_end(stream: trio.SocketStream) -> tuple[float, bytes]:
    """How long the server takes to close, and what it sends until then."""
    began = trio.current_time()
    received = await to_the_end(stream)
    return trio.current_time() - began, received


async def test_a_connection_without_a_request_is_closed_in_silence(clock: MockClock) -> None:
    async with served(hello, Limits(head_seconds=10)) as here, await here.open() as stream:
        took, received = await seconds_to_the_end(stream)
    assert 10 <= took <= 12
    assert received == b""


async def test_a_connection_that_idles_after_an_answer_is_closed_in_silence(
    clock: MockClock,
) -> None:
    async with served(hello, Limits(idle_seconds=30)) as here, await here.open() as stream:
        await stream.send_all(request("/a"))
        await until(stream, b"GET /a")
        took, received = await seconds_to_the_end(stream)
    assert 30 <= took <= 32
    assert received == b""


async def test_headers_that_trickle_get_408_however_busy_they_look(clock: MockClock) -> None:
    async def trickle(stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: here\r\n")
            while True:
                await stream.send_all(b"X: a\r\n")
                await trio.sleep(1)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # cut off, as it should be

    async with (
        served(hello, Limits(head_seconds=10)) as here,
        await here.open() as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trickle, stream)
        took, received = await seconds_to_the_end(stream)
        nursery.cancel_scope.cancel()
    assert took <= 12
    assert [answer.status for answer in answers(received)] == [408]


async def test_a_body_that_does_not_come_gets_408(clock: MockClock) -> None:
    async with served(echo, Limits(body_seconds=20)) as here, await here.open() as stream:
        await stream.send_all(request("/", "Content-Length: 10", method="POST") + b"abc")
        took, received = await seconds_to_the_end(stream)
    assert 20 <= took <= 22
    assert [answer.status for answer in answers(received, "POST")] == [408]


async def test_a_large_body_at_a_fair_rate_may_take_longer(clock: MockClock) -> None:
    limits = Limits(body_seconds=5, slowest_bytes_per_second=1_000, body_bytes=100_000)
    async with served(echo, limits) as here, await here.open() as stream:
        await stream.send_all(request("/", "Content-Length: 30000", CLOSE, method="POST"))
        for _ in range(30):
            await trio.sleep(1)
            await stream.send_all(b"a" * 1_000)
        (answer,) = answers(await to_the_end(stream), "POST")
    assert len(answer.body) == 30_000


async def test_the_time_of_the_application_is_its_own(clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(50)
        await hello(scope, receive, send)

    limits = Limits(head_seconds=1, body_seconds=1, idle_seconds=1, unread_seconds=1)
    async with served(app, limits) as here:
        (answer,) = answers(await here.exchange(request("/", CLOSE)))
    assert answer.status == 200


async def test_an_answer_left_unread_ends_the_connection_and_is_counted(clock: MockClock) -> None:
    raised = trio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body", "body": b"x" * 20_000_000})
        finally:
            raised.set()

    async with served(app, Limits(unread_seconds=20)) as here:
        client = trio.socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await client.connect(("127.0.0.1", here.port))
        began = trio.current_time()
        await client.send(request())
        await raised.wait()
        # What the kernels hold between the two counts as taken: a second more a KB.
        assert trio.current_time() - began >= 20
        await until_that(lambda: not here.server.connections)
        assert here.server.tally.refusals == {"answer left unread": 1}
        client.close()


async def until_that(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await trio.sleep(0.01)


@pytest.mark.slow
async def test_slow_clients_by_the_thousand_keep_no_one_out(
    clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice as many as may be open, each in the middle of its headers for ever."""
    caplog.set_level(logging.WARNING)
    limits = Limits(connections=400)
    async with served(hello, limits) as here, many(here, 800) as slow:
        for number, stream in enumerate(slow):
            try:
                await stream.send_all(b"GET / HTTP/1.1\r\nX: ")
            except trio.BrokenResourceError:
                assert number < 400, "the newest stay"
            if number % 50 == 0:
                (answer,) = answers(await here.exchange(request(f"/{number}", CLOSE)))
                assert answer.body == f"GET /{number}".encode()
        assert len(here.server.connections) <= 400
        assert here.server.tally.refusals["connection closed to make room"] >= 400
        await trio.sleep(15)
        assert not here.server.connections, "the rest ends by its time-out"
    assert len(caplog.records) < 10


async def test_a_server_whose_connections_all_work_lets_the_next_wait() -> None:
    go_on = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await hello(scope, receive, send)

    async with served(app, Limits(connections=2)) as here, many(here, 2) as busy:
        for stream in busy:
            await stream.send_all(request("/slow", CLOSE))
        await until_that(lambda: here.server.tally.requests == 2)
        async with await here.open() as third:
            await third.send_all(request("/third", CLOSE))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert here.server.tally.accepted == 2
            go_on.set()
            (answer,) = answers(await to_the_end(third))
            assert answer.body == b"GET /third"


# Drains


async def test_a_drain_lets_requests_finish_and_closes_the_idle() -> None:
    go_on = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await hello(scope, receive, send)

    async with served(app) as here, many(here, 2) as (working, idle):
        await idle.send_all(request("/idle"))
        await until(idle, b"GET /idle")
        await working.send_all(request("/slow"))
        await until_that(lambda: here.server.tally.requests == 2)
        here.server.drain(60)
        assert await to_the_end(idle) == b""
        with pytest.raises(OSError, match="failed"):
            await here.open()
        go_on.set()
        (answer,) = answers(await to_the_end(working))
        assert answer.body == b"GET /slow"
        assert answer.headers[b"connection"] == b"close"
        await until_that(lambda: not here.server.connections)


async def test_a_drain_answers_what_has_arrived_and_waits_in_the_kernel() -> None:
    async with served(hello) as here:
        client = socket.create_connection(("127.0.0.1", here.port))
        client.sendall(request("/late"))
        here.server.drain(60)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
        (answer,) = answers(await to_the_end(stream))
        await stream.aclose()
    assert answer.body == b"GET /late"
    assert answer.headers[b"connection"] == b"close"


async def test_a_drain_answers_a_request_that_is_on_its_way_on_an_idle_connection() -> None:
    async with served(hello) as here, await here.open() as stream:
        await stream.send_all(request("/a"))
        await until(stream, b"GET /a")
        await stream.send_all(request("/b"))
        here.server.drain(60)
        (answer,) = answers(await to_the_end(stream))
    assert answer.body == b"GET /b"


async def test_a_drain_ends_at_its_deadline(
    clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = trio.Event()

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with served(app) as here, await here.open() as stream:
        await stream.send_all(request())
        await until_that(lambda: here.server.tally.requests == 1)
        here.server.drain(5)
        took, received = await seconds_to_the_end(stream)
        await cancelled.wait()
    assert 5 <= took < 6
    assert received == b""
    assert "the drain's time is over: 1 request was cut off" in caplog.text


async def test_a_drain_gives_a_new_connection_a_second_to_ask(clock: MockClock) -> None:
    async with served(hello) as here, many(here, 2) as (asks, silent):
        await until_that(lambda: len(here.server.connections) == 2)
        here.server.drain(60)
        await asks.send_all(request("/a"))
        (answer,) = answers(await to_the_end(asks))
        assert answer.body == b"GET /a"
        took, received = await seconds_to_the_end(silent)
    assert took <= 3
    assert received == b""
