"""The dashboard's model, and its addresses over real sockets."""

from __future__ import annotations

import json

import attrs
import pytest
import trio

from pipeline.config.model import HttpConfig
from pipeline.contracts.snapshot import BreakerState, PartitionSnapshot, ShardSnapshot
from pipeline.dashboard.model import DashboardModel
from pipeline.dashboard.routes import dashboard_routes, is_loopback
from pipeline.observe.http import serve_http
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition
from tests.unit.test_http import GivenHealth

ONE = PartitionSnapshot(TopicPartition("sessions", 0), 1, message_lag=7, time_lag=2.5, watermark=5)
TWO = PartitionSnapshot(TopicPartition("sessions", 1), 2, message_lag=1, time_lag=9.0)


@attrs.define
class Given:
    """What a model sees."""

    partitions: list[PartitionSnapshot] = attrs.field(factory=lambda: [ONE, TWO])
    shards: list[ShardSnapshot] = attrs.field(
        factory=lambda: [ShardSnapshot("db0", BreakerState.OPEN, 3, 1, trouble="away: refused")]
    )
    applied: int = 0
    now: float = 1000.0

    def model(self) -> DashboardModel:
        return DashboardModel(
            "web", "sessions", lambda: self.partitions, lambda: self.shards,
            lambda: self.applied, clock=lambda: self.now,
        )  # fmt: skip


def test_lag_is_added_up_as_pipeline_lag_does() -> None:
    given = Given()
    state = given.model().state()
    assert (state["message_lag"], state["time_lag_seconds"]) == (8, 9.0)
    given.partitions = [ONE, attrs.evolve(TWO, message_lag=None, time_lag=None)]
    state = given.model().state()
    assert (state["message_lag"], state["time_lag_seconds"]) == (None, None)


def test_the_rate_is_what_was_applied_between_two_samples() -> None:
    given = Given()
    model = given.model()
    model.sample()
    assert model.state()["rate"] is None
    given.applied, given.now = 500, 1005.0
    model.sample()
    assert model.state()["rate"] == 100.0


def test_the_history_holds_an_hour() -> None:
    given = Given()
    model = given.model()
    for _ in range(800):
        given.now += 5
        model.sample()
    assert [len(model.past()["samples"]), model.past()["samples"][-1][0]] == [720, given.now]


def test_gains_and_losses_of_partitions_are_on_the_timeline() -> None:
    given = Given()
    model = given.model()
    model.sample()
    given.partitions, given.now = [attrs.evolve(ONE, assignment_id=3)], 1005.0
    model.sample()
    model.sample()
    assert model.past()["changes"] == [
        {"at": 1000.0, "gained": ["sessions-0", "sessions-1"], "lost": []},
        {"at": 1005.0, "gained": ["sessions-0"], "lost": ["sessions-0", "sessions-1"]},
    ]


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("10.0.0.1", False), ("evil.example", False), ("", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


async def receive(port: int, path: str, host: str, until: bytes) -> bytes:
    """What a request is answered, to where ``until`` is in it, or to its end."""
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        async for part in stream:
            received += part
            if until in received:
                break
    return received


async def test_the_page_its_files_and_events_are_served_to_this_machine_alone() -> None:
    routes = dashboard_routes(Given().model())
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            at = HttpConfig("127.0.0.1", 0)
            port = await nursery.start(serve_http, at, Metrics(), GivenHealth(), routes)
            for path in ("/", "/dashboard.css", "/dashboard.js", "/api/history", "/api/tasks"):
                answer = (await receive(port, path, f"localhost:{port}", b"never")).lower()
                assert answer.startswith(b"http/1.1 200"), path
                assert b"content-security-policy: default-src 'none'" in answer
                assert b"unsafe" not in answer.partition(b"\r\n\r\n")[0]
                answer = await receive(port, path, "evil.example", b"never")
                assert answer.startswith(b"HTTP/1.1 403"), path
            answer = await receive(port, "/api/events", "127.0.0.1", b"}\n\n")
            state = json.loads(answer.partition(b"data: ")[2].partition(b"\n\n")[0])
            assert state["shards"][0]["trouble"] == "away: refused"
            nursery.cancel_scope.cancel()
