"""The HTTP server and the world's clients: curl, httpx, TLS, unix sockets, systemd's activation."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio

from pipeline.web.binding import Inherited, ListenError, Tcp, Unix, listen
from pipeline.web.tls import Tls, TlsError
from tests.support.certificates import Authority
from tests.support.web import CLOSE, answers, echo, hello, request, served

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def curl(*options: str, sent: bytes = b"") -> bytes:
    """What curl prints; it must succeed."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", *options]
    done = await trio.run_process(command, stdin=sent, capture_stdout=True, capture_stderr=True)
    return done.stdout


@needs_curl
async def test_curl_keeps_its_connection_over_requests_of_every_kind() -> None:
    async with served(echo) as here:
        url = f"http://127.0.0.1:{here.port}/"
        each = ["--write-out", "|%{http_code} %{num_connects}\n"]
        printed = await curl(
            url, *each, "--next", "--data", "abc", url, *each,
            "--next", "--header", "Transfer-Encoding: chunked", "--data", "chunks", url, *each,
            "--next", "--header", "Expect: 100-continue", "--data", "expected", url, *each,
            "--next", "--head", "--output", "/dev/null", url, *each,
            "--next", "--http2", url, *each,
        )  # fmt: skip
    lines = printed.decode().split("\n")
    assert lines == [
        "|200 1", "abc|200 0", "chunks|200 0", "expected|200 0", "|200 0", "|200 0", "",
    ]  # fmt: skip


@needs_curl
async def test_curl_uploads_a_large_body_and_gets_it_back() -> None:
    body = os.urandom(900_000)
    async with served(echo) as here:
        url = f"http://127.0.0.1:{here.port}/"
        assert await curl("--data-binary", "@-", url, sent=body) == body
        assert (
            await curl("-H", "Transfer-Encoding: chunked", "--data-binary", "@-", url, sent=body)
            == body
        )


async def test_httpx_on_trio_gets_its_answers() -> None:
    async with (
        served(echo) as here,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{here.port}", trust_env=False) as client,
    ):
        for number in range(20):
            answer = await client.post("/", content=str(number))
            assert (answer.status_code, answer.text) == (200, str(number))
        assert here.server.tally.accepted == 1


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.ca))


async def test_tls_and_a_certificate_that_is_read_again(
    authority: Authority, tmp_path: Path
) -> None:
    old = authority.issue("web-old", "127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    shutil.copy(old.chain, chain)
    shutil.copy(old.key, key)
    tls = Tls(chain, key)
    async with served(echo, tls=tls) as here:
        url = f"https://127.0.0.1:{here.port}/"

        async def serial() -> object:
            stream = await trio.open_ssl_over_tcp_stream(
                "127.0.0.1", here.port, ssl_context=trusting(authority)
            )
            await stream.do_handshake()
            found = stream.getpeercert()
            await trio.aclose_forcefully(stream)
            return found["serialNumber"]

        async with httpx.AsyncClient(verify=trusting(authority), trust_env=False) as client:
            body = b"x" * 300_000
            assert (await client.post(url, content=body)).content == body
            first = await serial()
            new = authority.issue("web-new", "127.0.0.1")
            shutil.copy(new.chain, chain)
            with pytest.raises(TlsError, match=r"chain\.pem"):
                tls.reload()
            assert await serial() == first, "what does not fit together is not taken"
            shutil.copy(new.key, key)
            tls.reload()
            assert await serial() != first
            assert (await client.post(url, content=b"kept")).content == b"kept"
        assert here.server.tally.failed == 0


async def test_a_client_that_speaks_no_tls_is_counted_and_harms_nobody(
    authority: Authority,
) -> None:
    certificate = authority.issue("web-plain", "127.0.0.1")
    async with served(hello, tls=Tls(certificate.chain, certificate.key)) as here:
        assert b"HTTP/1.1 200" not in await here.exchange(request())
        assert here.server.tally.refusals == {"failed TLS handshake": 1}
        async with httpx.AsyncClient(verify=trusting(authority), trust_env=False) as client:
            assert (await client.get(f"https://127.0.0.1:{here.port}/")).text == "GET /"


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    locked = authority.issue("web-locked", "127.0.0.1", passphrase="secret")
    with pytest.raises(TlsError, match="without a passphrase"):
        Tls(locked.chain, locked.key)


async def test_a_unix_socket_has_its_mode_and_is_taken_over_from_the_dead(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    for _ in range(2):
        async with served(hello, binding=Unix(path, mode=0o600)) as here:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            (answer,) = answers(await here.exchange(request("/a", CLOSE)))
            assert answer.body == b"GET /a"
            with pytest.raises(ListenError, match=r"web\.sock.*a server that answers"):
                await listen(Unix(path))
    path.unlink()
    path.write_text("precious")
    with pytest.raises(ListenError, match="a file is there"):
        await listen(Unix(path))
    assert path.read_text() == "precious"


async def test_a_port_is_shared_where_both_say_so() -> None:
    (first,) = await listen(Tcp("127.0.0.1", 0, reuse_port=True))
    with first:
        port = first.getsockname()[1]
        (second,) = await listen(Tcp("127.0.0.1", port, reuse_port=True))
        second.close()
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}: Address already in use"):
            await listen(Tcp("127.0.0.1", port))


async def test_connections_send_without_delay() -> None:
    (listener,) = await listen(Tcp("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()):
        await trio.lowlevel.wait_readable(listener)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


ACTIVATED = """
import os, sys, trio
from pipeline.web.binding import Inherited, listen
from pipeline.web.server import serve
from tests.support.web import hello

async def main():
    await serve(hello, await listen(Inherited("web")))

os.environ["LISTEN_PID"] = str(os.getpid())
trio.run(main)
"""


async def test_a_socket_that_systemd_opened_is_served() -> None:
    """As systemd does it: descriptors from 3 on, told by variables; a client may connect before."""
    with (
        socket.create_server(("127.0.0.1", 0)) as waiting,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        port = waiting.getsockname()[1]
        code = f"import os; os.dup2({other.fileno()}, 90); os.dup2({waiting.fileno()}, 4); os.dup2(90, 3)"
        environment = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "other:web"}
        with socket.create_connection(("127.0.0.1", port)) as early:
            early.sendall(request("/early", CLOSE))
            process = activated(code, environment, {3, 4, waiting.fileno(), other.fileno()})
            try:
                early.settimeout(60)
                received = await trio.to_thread.run_sync(read_out, early)
            finally:
                process.kill()
                process.wait()
    (answer,) = answers(received)
    assert answer.body == b"GET /early"


def activated(code: str, environment: dict[str, str], passed: set[int]) -> subprocess.Popen[bytes]:
    existing = {int(name) for name in os.listdir("/proc/self/fd")}
    return subprocess.Popen(
        [sys.executable, "-c", code + "\n" + ACTIVATED],
        env=environment,
        pass_fds=sorted(passed & existing),
    )


def read_out(client: socket.socket) -> bytes:
    parts: list[bytes] = []
    while part := client.recv(65_536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "LISTEN_PID"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "LISTEN_PID"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}, "among the 0"),
    ],
)
async def test_without_sockets_of_systemd_the_error_says_so(
    variables: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ListenError, match=why):
        await listen(Inherited())
