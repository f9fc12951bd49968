"""The HTTP endpoint over real sockets, and the health that it shows."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from pipeline.config.model import HttpConfig
from pipeline.contracts.lane import LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.snapshot import BreakerState, LaneSnapshot, PartitionSnapshot, ShardSnapshot
from pipeline.contracts.wish import Hold, HoldState
from pipeline.errors import PipelineError
from pipeline.observe.health import ProgressWatch
from pipeline.observe.http import HttpError, serve_http
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition

ANY_PORT = HttpConfig("127.0.0.1", 0)


@attrs.define
class GivenHealth:
    """A `Health` that says what it is given."""

    why_not_live: list[str] = attrs.field(factory=list)
    why_not_ready: list[str] = attrs.field(factory=list)
    to_know: list[str] = attrs.field(factory=list)

    def live(self) -> list[str]:
        return self.why_not_live

    def ready(self) -> list[str]:
        return self.why_not_ready

    def notes(self) -> list[str]:
        return self.to_know


@asynccontextmanager
async def served(metrics: Metrics, health: GivenHealth) -> AsyncIterator[int]:
    """The port of an endpoint that ends with the block."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(serve_http, ANY_PORT, metrics, health)
            nursery.cancel_scope.cancel()


async def exchange(port: int, request: bytes) -> bytes:
    """Send a request and read to the end of the connection."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        return b"".join([part async for part in stream])


async def get(port: int, path: str) -> tuple[int, str, str]:
    """The status, the headers in lower case, and the body."""
    request = f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    head, _, body = (await exchange(port, request.encode())).decode().partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


async def test_metrics_are_served_as_prometheus_text() -> None:
    metrics = Metrics()
    metrics.message_lag.labels("sessions", 0).set(3)
    async with served(metrics, GivenHealth()) as port:
        status, head, body = await get(port, "/metrics")
    assert status == 200
    assert "content-type: text/plain; version=0.0.4; charset=utf-8" in head
    assert 'pipeline_message_lag{partition="0",topic="sessions"} 3.0\n' in body


async def test_the_probes_answer_503_with_a_reason_a_line() -> None:
    health = GivenHealth(to_know=["no partitions: spare"])
    async with served(Metrics(), health) as port:
        assert (await get(port, "/livez"))[::2] == (200, "ok\n")
        assert (await get(port, "/readyz"))[::2] == (200, "ok\nno partitions: spare\n")
        health.why_not_live = ["sessions-0 stands", "sessions-1 stands"]
        health.why_not_ready = ["not joined"]
        assert (await get(port, "/livez"))[::2] == (503, "sessions-0 stands\nsessions-1 stands\n")
        assert (await get(port, "/readyz"))[::2] == (503, "not joined\nno partitions: spare\n")


async def test_what_is_paused_is_named_and_is_no_reason_not_to_be_ready() -> None:
    health = GivenHealth(to_know=["paused: shard db0"])
    async with served(Metrics(), health) as port:
        assert (await get(port, "/readyz"))[::2] == (200, "ok\npaused: shard db0\n")
        assert (await get(port, "/livez"))[::2] == (200, "ok\n")
        health.why_not_ready = ["not joined"]
        assert (await get(port, "/readyz"))[::2] == (503, "not joined\npaused: shard db0\n")


async def test_the_index_links_the_rest_and_nothing_else_is_there() -> None:
    async with served(Metrics(), GivenHealth()) as port:
        status, _, body = await get(port, "/")
        assert status == 200
        assert all(f'href="{path}"' in body for path in ("/metrics", "/livez", "/readyz"))
        assert (await get(port, "/other"))[0] == 404


async def test_requests_are_not_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with served(Metrics(), GivenHealth()) as port:
        await get(port, "/livez")
    about_http = [r.getMessage() for r in caplog.records if r.name != "asyncio"]
    assert about_http == [f"metrics and health on http://127.0.0.1:{port}"]
    assert capfd.readouterr() == ("", "")


async def test_a_port_in_use_is_an_error_that_names_it_and_the_key() -> None:
    async with served(Metrics(), GivenHealth()) as port:
        with pytest.raises(HttpError) as caught:
            await serve_http(HttpConfig("127.0.0.1", port), Metrics(), GivenHealth())
    assert isinstance(caught.value, PipelineError)
    assert f"can't listen on 127.0.0.1:{port}: Address already in use;" in str(caught.value)
    assert "http.listen" in str(caught.value)


async def test_an_address_of_another_machine_is_an_error_that_names_it() -> None:
    with pytest.raises(HttpError, match=r"can't listen on \[2001:db8::1\]:9187: .*http\.listen"):
        await serve_http(HttpConfig("2001:db8::1", 9187), Metrics(), GivenHealth())


async def test_an_upgrade_that_is_offered_is_not_taken() -> None:
    """One with settings that aren't base64 brought the server of before down."""
    upgrade = (
        b"GET /livez HTTP/1.1\r\nHost: here\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: zzz\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n"
    )
    async with served(Metrics(), GivenHealth()) as port:
        assert (await exchange(port, upgrade)).startswith(b"HTTP/1.1 200 ")
        assert (await get(port, "/livez"))[0] == 200


async def test_a_kept_connection_does_not_hold_up_the_end() -> None:
    with trio.fail_after(2):
        async with served(Metrics(), GivenHealth()) as port:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    await stream.aclose()


async def test_a_client_that_leaves_its_answer_unread_does_not_hold_up_the_end() -> None:
    metrics, ended, scope = Metrics(), trio.Event(), trio.CancelScope()
    metrics.message_lag.labels("t" * 8_000_000, 0).set(1)

    async def serve(task_status: trio.TaskStatus[int]) -> None:
        with scope:
            await serve_http(ANY_PORT, metrics, GivenHealth(), task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve)
        client = trio.socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await client.connect(("127.0.0.1", port))
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        received = b""
        while b"pipeline_message_lag{" not in received:
            received += await client.recv(100)
        scope.cancel()
        with trio.move_on_after(5):
            await ended.wait()
        in_time = ended.is_set()
        client.close()
    assert in_time


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class Watching:
    """A watch fed with one partition, a second at a time."""

    clock: Clock = attrs.field(factory=Clock)
    described: int = 0
    watch: ProgressWatch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watch = ProgressWatch(self.clock, self._describe)

    def _describe(self) -> str:
        self.described += 1
        return "writer 0: in apply"

    def pass_seconds(self, seconds: int, *partitions: PartitionSnapshot) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            self.watch.feed(partitions)


STANDING = PartitionSnapshot(
    TopicPartition("sessions", 0),
    watermark=42,
    message_lag=7,
    waits_for="a slot at shard db0",
)


@pytest.fixture
def watching() -> Watching:
    return Watching()


def test_a_partition_that_stands_for_60_seconds_is_named(watching: Watching) -> None:
    watching.pass_seconds(60, STANDING)
    assert watching.watch.live() == []
    watching.pass_seconds(1, STANDING)
    assert watching.watch.live() == [
        "sessions-0 has stood at offset 42 for 60 s while 7 records wait and its shard answers;"
        " it waits for a slot at shard db0"
    ]


def test_how_long_a_partition_has_stood_still_is_known(watching: Watching) -> None:
    standing = watching.watch.standing_seconds
    assert standing(STANDING.source) == 0.0
    watching.pass_seconds(10, STANDING)
    watching.clock.now += 1
    assert standing(STANDING.source) == 10.0
    watching.watch.feed([attrs.evolve(STANDING, watermark=43)])
    assert standing(STANDING.source) == 0.0
    watching.pass_seconds(5)
    assert standing(STANDING.source) == 0.0, "it has left"


def test_every_task_is_described_once_a_stall(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    other = attrs.evolve(STANDING, source=TopicPartition("sessions", 1))
    watching.pass_seconds(100, STANDING)
    watching.pass_seconds(100, STANDING, other)
    assert len(watching.watch.live()) == 2
    assert watching.described == 1
    assert caplog.text.count("writer 0: in apply") == 1
    watching.pass_seconds(1, attrs.evolve(STANDING, watermark=43))
    assert watching.watch.live() == []
    assert "live again" in caplog.text
    watching.pass_seconds(100, attrs.evolve(STANDING, watermark=43))
    assert watching.described == 2


@pytest.mark.parametrize(
    "excused",
    [
        attrs.evolve(STANDING, message_lag=0),
        attrs.evolve(STANDING, answers=False),
        attrs.evolve(STANDING, watermark=41),
    ],
    ids=["nothing waits", "the shard is away", "moved back by a rewind"],
)
def test_what_excuses_standing_starts_the_time_anew(
    watching: Watching, excused: PartitionSnapshot
) -> None:
    watching.pass_seconds(59, STANDING)
    watching.pass_seconds(1, excused)
    watching.pass_seconds(59, STANDING)
    assert watching.watch.live() == []


def test_a_shard_that_is_away_for_hours_is_no_reason_to_restart(watching: Watching) -> None:
    watching.pass_seconds(7200, attrs.evolve(STANDING, answers=False))
    assert watching.watch.live() == []


def test_a_partition_that_has_left_is_forgotten(watching: Watching) -> None:
    watching.pass_seconds(100, STANDING)
    watching.pass_seconds(1)
    assert watching.watch.live() == []
    watching.pass_seconds(30, STANDING)
    assert watching.watch.live() == []


def test_a_topic_that_does_not_exist_is_the_reason_before_all_others(watching: Watching) -> None:
    watching.watch.missing_topics(["orders"])
    assert watching.watch.ready() == ["topic orders does not exist"]
    watching.watch.joined()
    assert watching.watch.ready() == ["topic orders does not exist"]
    watching.watch.missing_topics([])
    assert watching.watch.ready() == []


def test_an_instance_without_partitions_says_that_it_is_a_spare(watching: Watching) -> None:
    watching.watch.joined()
    assert watching.watch.notes() == ["no partitions: spare"]
    watching.pass_seconds(1, STANDING)
    assert watching.watch.notes() == []


def test_ready_once_the_group_has_been_joined(watching: Watching) -> None:
    assert watching.watch.ready() == ["the consumer group has not been joined yet"]
    watching.watch.joined()
    assert watching.watch.ready() == []


def test_a_shard_that_nothing_is_written_to_is_named_with_its_reason(watching: Watching) -> None:
    watching.watch.joined()
    watching.pass_seconds(1, STANDING)
    away = ShardSnapshot("db1", BreakerState.OPEN, 3, 0, trouble="away: connection refused")
    watching.watch.shards = lambda: [ShardSnapshot("db0", BreakerState.CLOSED, 3, 0), away]
    assert watching.watch.notes() == ["shard db1 is away: connection refused"]


def test_a_hold_that_lanes_obey_is_named_by_its_id_and_not_by_whose_records_wait(
    watching: Watching,
) -> None:
    watching.watch.joined()
    hold = Hold(id="h1", by="ada@host", since=0, why="refunds", rule=Rule("key", "eve@home"))
    dropping = attrs.evolve(hold, id="h2", state=HoldState.DROPPING)
    lanes = [
        LaneSnapshot(n, hold.rule, LaneReason.HOLD, waiting=20, hold=obeyed)
        for n, obeyed in enumerate((hold, hold, dropping, None))
    ]
    watching.pass_seconds(1, attrs.evolve(STANDING, lanes=tuple(lanes)))
    assert watching.watch.notes() == [
        "held: h1 (40 records in 1 partition here), by ada@host since 1970-01-01 00:00 UTC: refunds"
    ]
