"""Models of dashboards over given facts, and how one is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from pipeline.config.model import HttpConfig
from pipeline.contracts.presence import Presence, Presences, TopicState
from pipeline.contracts.snapshot import BreakerState, PartitionSnapshot, ShardSnapshot
from pipeline.contracts.wish import Hold, Pause
from pipeline.dashboard.access import Access
from pipeline.dashboard.group import GroupView
from pipeline.dashboard.identity import Identity
from pipeline.dashboard.model import ConsumerModel, Model, Sources
from pipeline.dashboard.routes import dashboard_routes
from pipeline.observe.heavy import Heavy
from pipeline.observe.http import serve_http
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition
from tests.unit.test_http import GivenHealth

TOKEN = "0123456789abcdef-token"
NOW = 1000.0

ONE = PartitionSnapshot(TopicPartition("sessions", 0), 1, message_lag=7, time_lag=2.5, watermark=5)
TWO = PartitionSnapshot(TopicPartition("sessions", 1), 2, message_lag=1, time_lag=9.0)
AWAY = ShardSnapshot("db0", BreakerState.OPEN, 3, 1, busy=2, trouble="away: refused")
WORKS = ShardSnapshot("db0", BreakerState.CLOSED, 4, 2, busy=3)


@attrs.define
class Given:
    """What a model sees."""

    id: str = "me"
    partitions: list[PartitionSnapshot] = attrs.field(factory=lambda: [ONE, TWO])
    shards: list[ShardSnapshot] = attrs.field(factory=lambda: [AWAY])
    pauses: list[Pause] = attrs.field(factory=list)
    holds: list[Hold] = attrs.field(factory=list)
    tenants: list[Heavy] = attrs.field(factory=list)
    keys: list[Heavy] = attrs.field(factory=list)
    topics: dict[str, int] = attrs.field(factory=dict)
    trouble: list[str] = attrs.field(factory=list)
    metrics: Metrics = attrs.field(factory=Metrics)
    now: float = NOW

    def top_tenants(self) -> list[Heavy]:
        return self.tenants

    def top_keys(self) -> list[Heavy]:
        return self.keys

    def model(self) -> ConsumerModel:
        sources = Sources(
            lambda: self.partitions, lambda: self.shards, lambda: self.pauses,
            lambda: self.holds, lambda: self.topics, lambda: self.trouble, self.metrics,
            lambda partition: f"db{partition % 2}", self,
        )  # fmt: skip
        return ConsumerModel(self.identity(), sources, clock=lambda: self.now)

    def identity(self) -> Identity:
        return Identity(self.id, f"owner-{self.id}", "run", "web", "sessions", "here", NOW, "1.2.3")


def followed(*known: Presence) -> Presences:
    """What a control topic tells."""
    presences = Presences()
    presences.topic = TopicState.FOLLOWED
    presences.replace(known)
    return presences


def present(model: Model, port: int, **fields: Any) -> Presence:
    """What the control topic says of an instance at a port of this machine."""
    told = model.identity.presence(HttpConfig("127.0.0.1", 0), port)
    return attrs.evolve(told, at=int(NOW * 1000), **fields)


@asynccontextmanager
async def served(
    model: Model, presences: Presences | None = None, tokens: Sequence[str] = ()
) -> AsyncIterator[int]:
    """The port of an instance's dashboard, which ends with the block."""
    group = GroupView(model, presences or followed(), tokens, clock=lambda: NOW)
    routes = dashboard_routes(model, group, Access(tokens))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            at = HttpConfig("127.0.0.1", 0)
            yield await nursery.start(serve_http, at, Metrics(), GivenHealth(), routes)
            nursery.cancel_scope.cancel()


async def receive(
    port: int, path: str, host: str = "127.0.0.1", until: bytes = b"never", headers: str = ""
) -> bytes:
    """What a request is answered, to where ``until`` is in it, or to its end."""
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n".encode()
        )
        async for part in stream:
            received += part
            if until in received:
                break
    return received
