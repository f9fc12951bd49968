"""As many clients as the endpoint takes, all connected at once, most of them idle or slow."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.ingest.instance import CONNECTIONS
from pipeline.local.ports import HOST
from pipeline.local.processes import descendants
from tests.support.ingest_process import Endpoint

pytestmark = [pytest.mark.real, pytest.mark.slow]

BYTES_EACH = 20_000
"""What one connection may add to the process: 7,200 were measured."""


@contextmanager
def many_files(wanted: int) -> Iterator[None]:
    """Let this process, and those that it starts, have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        pytest.skip(f"this user may have {before[1]} files open, and the test needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def resident(pid: int) -> int:
    """Bytes of memory of a process and those below it."""
    found = 0
    for each in [pid, *descendants(pid)]:
        with suppress(OSError):
            pages = int(Path(f"/proc/{each}/statm").read_text().split()[1])
            found += pages * resource.getpagesize()
    return found


def test_with_ten_thousand_connections_open_the_next_client_is_answered(
    endpoint: Endpoint,
) -> None:
    """Half of them have sent half a request. One more than there may be takes the oldest's place."""
    with many_files(CONNECTIONS + 1_000), ExitStack() as stack:
        instance = endpoint.start()
        assert endpoint.post({"app": "a", "id": 1}).status == 202
        before = resident(instance.pid)
        crowd = []
        for number in range(CONNECTIONS):
            client = socket.create_connection((HOST, endpoint.port), timeout=60)
            stack.callback(client.close)
            if number % 2:
                client.sendall(b"POST /v1/records HTTP/1.1\r\nhost: ")
            crowd.append(client)
        for number in range(20):
            assert endpoint.post({"app": "a", "id": number}).status == 202
        assert resident(instance.pid) - before < CONNECTIONS * BYTES_EACH
        crowd[-1].sendall(b"here\r\ncontent-length: 0\r\n\r\n")
        assert crowd[-1].recv(100).startswith(b"HTTP/1.1 4"), "the youngest is still served"
    assert endpoint.post({"app": "a", "id": 2}).status == 202, "and after they have gone"
