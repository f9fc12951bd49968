"""One Postgres database: its connections, its turns, and whether it can be reached."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import TypeVar

import attrs
import trio

from pipeline.config import ShardConfig
from pipeline.observe.metrics import Metrics
from pipeline.postgres.bridge import Connection, Connections, Session, cross
from pipeline.postgres.errors import explain

T = TypeVar("T")

log = logging.getLogger(__name__)


class BreakerState(IntEnum):
    """The values are those of the metric ``pipeline_shard_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@attrs.frozen
class Backoff:
    """Waits between attempts: doubled each time, capped, with half of each random.

    The jitter keeps instances that failed together from coming back together (Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    initial: float = 0.1
    longest: float = 10.0

    def seconds(self, attempt: int) -> float:
        """How long to wait after attempt number ``attempt``, which counts from 0."""
        ceiling = min(self.longest, self.initial * 2.0 ** min(attempt, 30))
        return ceiling * (0.5 + random.random() / 2)


class Breaker:
    """Whether a shard can be reached. Open: whoever needs the shard waits, and one task probes."""

    def __init__(self, name: str, metrics: Metrics, backoff: Backoff) -> None:
        self._name = name
        self._backoff = backoff
        self._gauge = metrics.shard_state.labels(name)
        self._closed = trio.Event()
        self._closed.set()
        self._tripped = trio.Event()
        self._set(BreakerState.CLOSED)

    def _set(self, state: BreakerState) -> None:
        self.state = state
        self._gauge.set(state)

    def trip(self, why: str) -> None:
        """The shard did not answer. Not a checkpoint."""
        if self.state is BreakerState.CLOSED:
            log.warning("shard %s is away: %s; its partitions wait, others go on", self._name, why)
            self._set(BreakerState.OPEN)
            self._closed = trio.Event()
            self._tripped.set()

    async def closed(self) -> None:
        """Wait until the shard can be reached. A checkpoint."""
        await self._closed.wait()

    async def watch(self, probe: Callable[[], Awaitable[object]]) -> None:
        """Probe the shard whenever it is away, until it answers. Runs until cancelled."""
        while True:
            await self._tripped.wait()
            attempt = 0
            while self.state is not BreakerState.CLOSED:
                await trio.sleep(self._backoff.seconds(attempt))
                attempt += 1
                self._set(BreakerState.HALF_OPEN)
                try:
                    await probe()
                except Exception as error:  # whatever it is, the shard did not answer
                    log.info("shard %s is still away: %s", self._name, explain(error))
                    self._set(BreakerState.OPEN)
                else:
                    log.warning("shard %s is back", self._name)
                    self._tripped = trio.Event()
                    self._set(BreakerState.CLOSED)
                    self._closed.set()


class Shard:
    """One database. Its `run` is the only way to it.

    A batch has a `turn` from when it is taken until it is decided, and `transact` runs what it writes;
    of those there are as many at once as ``connections``. ``handled`` by a slow function of a user's,
    there may be twice as many turns: half of the batches are with the handler, the others are written.

    Take-overs share the connections with the batches and may have half of them: an instance that is
    given many partitions at once goes on with those that it has, and one that waits for a former
    owner's transaction holds up no batch.
    """

    def __init__(
        self,
        config: ShardConfig,
        session: Session,
        metrics: Metrics,
        backoff: Backoff = Backoff(),
        *,
        handled: bool = False,
    ) -> None:
        self.name = config.name
        self._connections = config.connections
        self.turns = config.connections * (2 if handled else 1)
        """How many batches may be in flight at once, at most."""
        self.metrics = metrics
        self.breaker = Breaker(config.name, metrics, backoff)
        self._pool = Connections(config.dsn, session)
        self._turns = trio.CapacityLimiter(config.connections)
        self._transactions = trio.CapacityLimiter(config.connections)
        self._take_overs = trio.CapacityLimiter(max(1, config.connections // 2))
        metrics.shard_limit.labels(config.name).set(config.connections)
        self._in_flight = metrics.in_flight_batches.labels(config.name)

    @property
    def busy(self) -> bool:
        """Whether all turns are taken."""
        return self._turns.available_tokens <= 0

    def widen(self, *, slow: bool) -> None:
        """Give out all turns, or only as many as there are connections. Not a checkpoint."""
        self._turns.total_tokens = self.turns if slow else self._connections

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn: first come, first served."""
        async with self._turns:
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
