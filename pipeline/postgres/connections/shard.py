"""One Postgres database: its connections, its slots, and whether it can be reached."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from pipeline.config.model import ShardConfig
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.backoff import Backoff
from pipeline.postgres.connections.breaker import Breaker
from pipeline.postgres.connections.bridge import Connection, Connections, Session, cross

T = TypeVar("T")

log = logging.getLogger(__name__)


class Shard:
    """One database. Its `run` is the only way to it.

    A batch has a `slot` from when it is taken until it is decided, and `transact` runs what it writes;
    of those there are as many at once as ``connections``. ``handled`` by a slow function of a user's,
    there may be twice as many slots: half of the batches are with the handler, the others are written.

    Take-overs share the connections with the batches and may have half of them: an instance that is
    given many partitions at once goes on with those that it has, and one that waits for a former
    owner's transaction holds up no batch.
    """

    def __init__(
        self,
        config: ShardConfig,
        session: Session,
        metrics: Metrics,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
        *,
        handled: bool = False,
    ) -> None:
        self.name = config.name
        self._connections = config.connections
        self.slots = config.connections * (2 if handled else 1)
        """How many batches may be in flight at once, at most."""
        self.metrics = metrics
        self.breaker = Breaker(config.name, metrics, backoff)
        self._pool = Connections(config.dsn, session)
        self._slots = trio.CapacityLimiter(config.connections)
        self._transactions = trio.CapacityLimiter(config.connections)
        self._take_overs = trio.CapacityLimiter(max(1, config.connections // 2))
        metrics.shard_limit.labels(config.name).set(config.connections)
        self._in_flight = metrics.in_flight_batches.labels(config.name)

    @property
    def saturated(self) -> bool:
        """Whether all slots are taken."""
        return self._slots.available_tokens <= 0

    def set_slots(self, *, slow: bool) -> None:
        """Give out all slots, or only as many as there are connections. Not a checkpoint."""
        self._slots.total_tokens = self.slots if slow else self._connections

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot: first come, first served."""
        async with self._slots:
            yield

    @asynccontextmanager
    async def taking_over(self) -> AsyncIterator[None]:
        """Wait until one more partition may be taken over. A checkpoint."""
        async with self._take_overs, self._transactions:
            yield

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Write a batch: as `run`, when fewer than ``connections`` batches are being written."""
        async with self._transactions:
            self._in_flight.inc()
            try:
                return await self.run(work)
            finally:
                self._in_flight.dec()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """One transaction: ``work`` runs on the asyncio side with a connection of its own.

        A checkpoint; cancelled, it waits for the asyncio side to end.

        Raises:
            Whatever ``work`` raises, and the errors of connecting.
        """
        return await cross(self._pool.lease, work)

    async def serve(self) -> None:
        """Keep the breaker; when cancelled, close the connections. Runs until cancelled."""
        try:
            await self.breaker.watch(lambda: self.run(lambda c: c.fetchval("select 1")))
        finally:
            # Shielded: an open connection would be left to the server's keepalive. Each close is
            # bounded by `bridge.CLOSE_SECONDS`.
            with trio.CancelScope(shield=True):
                await cross(self._pool.close)

    def drop_idle(self) -> None:
        """The server is gone: connections that seem idle are broken too."""
        self._pool.terminate_idle()
