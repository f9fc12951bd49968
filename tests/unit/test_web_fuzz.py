"""Whatever bytes a client sends: whole answers that h11 reads, no mistake of the server's own."""

from __future__ import annotations

from contextlib import suppress

import h11
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.web import CLOSE, answers, echo, request, served, to_the_end

PIECES = st.sampled_from(
    [b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD * HTTP/1.0\r\n", b"GET / HTTP/9.9\r\n",
     b"CONNECT a:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"Host: here\r\n", b"Host:\r\n",
     b"Content-Length: 5\r\n", b"Content-Length: 05\r\n", b"Content-Length: -1\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
     b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n",
     b"Expect: 100-continue\r\n", b" folded\r\n", b"X\x00: 1\r\n", b"X: \xff\r\n", b": 1\r\n",
     b"\r\n", b"\n", b"\r", b"5\r\nhello\r\n", b"0\r\n\r\n", b"fffffffffffffffff\r\n", b"hello"]
)  # fmt: skip
BYTES = st.lists(PIECES | st.binary(max_size=10), max_size=12).map(b"".join)
WHOLE = request("/whole", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n0\r\n\r\n"


@given(sent=BYTES, first=st.booleans(), cut=st.integers(1, 200))
def test_any_bytes_get_whole_answers_and_the_next_client_is_served(
    sent: bytes, first: bool, cut: int
) -> None:
    data = WHOLE + sent if first else sent

    async def main() -> None:
        async with served(echo) as here:
            async with await here.open() as stream:
                with suppress(trio.BrokenResourceError):  # refused before the rest was sent
                    for at in range(0, len(data), cut):
                        await stream.send_all(data[at : at + cut])
                    await stream.send_eof()
                statuses = read(await to_the_end(stream))
            if first:
                assert statuses[:1] == [200], "it came before what is wrong"
            assert 500 not in statuses
            (answer,) = answers(await here.exchange(request("/", CLOSE)))
            assert answer.status == 200

    trio.run(main)


def read(received: bytes) -> list[int]:
    """Read every answer by h11, as those to requests that may have been HEAD; return the statuses."""
    statuses: list[int] = []
    while received:
        for method in ("GET", "HEAD"):
            reader = h11.Connection(h11.CLIENT)
            reader.send(h11.Request(method=method, target="/", headers=[("Host", "here")]))
            reader.send(h11.EndOfMessage())
            reader.receive_data(received)
            found = complete(reader)
            rest = bytes(reader.trailing_data[0])
            if found is not None and (not rest or rest.startswith(b"HTTP/1.1 ")):
                break
        assert found is not None, received
        statuses.append(found)
        received = rest
    return statuses


def complete(reader: h11.Connection) -> int | None:
    """Return the status of one whole answer, None if it is cut off."""
    status = None
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            return None
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage):
            return status
        elif isinstance(event, h11.ConnectionClosed):
            return None
