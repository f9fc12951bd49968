"""One Postgres database: its connections, its limits, and whether it can be reached."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from pipeline.config.model import ShardConfig
from pipeline.contracts.snapshot import BreakerState, ShardSnapshot
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.address import server_of
from pipeline.postgres.connections.breaker import Breaker
from pipeline.postgres.connections.bridge import Connection, Connections, Session, cross
from pipeline.postgres.connections.connector import ReadOnlyServer
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.connections.limiter import Limiter, Sample
from pipeline.runtime.backoff import Backoff

T = TypeVar("T")

IDLE_SECONDS = 1.0
"""How often idle connections are looked at; they are not asked anything."""


class Shard:
    """One database. Its `run` is the only way to it.

    Args:
        config: its name, its address, and how many connections it may have.
        session: the settings of each connection.
        metrics: what the shard's gauges and histograms belong to.
        backoff: the waits between probes while the database is away.
        handled, adaptive: see `Limiter`.
    """

    def __init__(
        self,
        config: ShardConfig,
        session: Session,
        metrics: Metrics,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
        *,
        handled: bool = False,
        adaptive: bool = False,
    ) -> None:
        self.name = config.name
        self.metrics = metrics
        self.breaker = Breaker(config.name, metrics, backoff)
        self.limiter = Limiter(config.connections, handled=handled, adaptive=adaptive)
        self.mended: Callable[[], Awaitable[object]] | None = None
        """Raises what stopped the shard, if it can be asked without a record."""
        self._pool = Connections.of(config, session)
        self.server = server_of(config.dsn)
        self._busy = 0  # connections that are in use
        self._apply_seconds = metrics.apply_seconds.labels(config.name)

    def snapshot(self) -> ShardSnapshot:
        """The shard as it is now. Not a checkpoint."""
        return ShardSnapshot(
            name=self.name,
            state=self.breaker.state,
            limit=self.limiter.limit,
            in_flight=self.limiter.transactions_taken,
            busy=self._busy,
            trouble=self.breaker.trouble,
        )

    async def transact(self, work: Callable[[Connection], Awaitable[T]], sample: Sample) -> T:
        """Write a batch: as `run`, once fewer batches than the limit are being written.

        What the transaction takes, in seconds, is measured around ``work`` alone: neither the wait
        for the limiter nor the opening of a connection says anything about the database's load. So
        measured, it moves the limit, if it succeeds; ``work`` may add to ``sample`` what it finds out.
        """
        async with self.limiter.transaction():
            return await self.run(partial(self._timed, work=work, sample=sample))

    async def _timed(
        self, connection: Connection, work: Callable[[Connection], Awaitable[T]], sample: Sample
    ) -> T:
        at_once = self.limiter.at_once
        started = time.perf_counter()
        result = await work(connection)
        ended = time.perf_counter()
        self._apply_seconds.observe(ended - started)
        self.limiter.observe(sample, at_once, ended - started, ended)
        return result

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """One transaction: ``work`` runs on the asyncio side with a connection of its own.

        A checkpoint; cancelled, it waits for the asyncio side to end.

        Raises:
            Whatever ``work`` raises, and the errors of connecting.
        """
        self._busy += 1
        try:
            return await cross(self._pool.lease, work)
        finally:
            self._busy -= 1

    async def serve(self) -> None:
        """Keep breaker and limits; when cancelled, close the connections. Runs until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.limiter.watch)
                nursery.start_soon(self._watch_idle)
                await self.breaker.watch(self._ask)
        finally:
            # Shielded: an open connection would be left to the server's keepalive. Each close is
            # bounded by `bridge.CLOSE_SECONDS`.
            with trio.CancelScope(shield=True):
                await cross(self._pool.close)

    async def _watch_idle(self) -> None:
        """Notice a server that goes while nothing is written: it closes the idle connections.

        Runs until cancelled.
        """
        while True:
            await trio.sleep(IDLE_SECONDS)
            if not self._pool.sweep() or self.breaker.state is not BreakerState.CLOSED:
                continue
            try:
                await self.run(_answers)
            except Exception as error:  # whatever it is, the shard did not answer
                self.drop_idle()
                self.breaker.trip(explain(error))

    async def _ask(self) -> None:
        """Raise if the shard does not answer, or if what stopped it is not mended."""
        await self.run(_answers)
        if self.breaker.stopped is not None and self.mended is not None:
            await self.mended()

    @property
    def entered(self) -> bool:
        """Whether a connection was ever made: what refuses the next one may pass."""
        return self._pool.entered

    def drop_idle(self) -> None:
        """The server is gone: connections that seem idle are broken too."""
        self._pool.terminate_idle()
        self.limiter.restart()


async def _answers(connection: Connection) -> None:
    """Ask whether the server can be written.

    A session keeps the default that it began with; so a connection that can't write is not kept:
    what is raised here is none of Postgres's errors.

    Raises:
        ReadOnlyServer: it can't.
    """
    if await connection.fetchval("select current_setting('transaction_read_only')::boolean"):
        raise ReadOnlyServer
