"""Whether a shard can be reached: the breaker."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from pipeline.contracts.log_events import event
from pipeline.contracts.snapshot import BreakerState
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.explanations import explain
from pipeline.runtime.backoff import Backoff
from pipeline.runtime.recurring import Recurring

log = logging.getLogger(__name__)

LONGEST_WAIT = 1.0
"""Seconds between two probes at most while they fail, whatever the back-off says: who has mended a shard
looks at it now, and a probe costs next to nothing."""


class Breaker:
    """Whether a shard can be reached. Open: whoever needs the shard waits, and one task probes."""

    def __init__(self, name: str, metrics: Metrics, backoff: Backoff) -> None:
        self._name = name
        self._backoff = backoff
        self._gauge = metrics.shard_state.labels(name)
        self._closed = trio.Event()
        self._closed.set()
        self._tripped = trio.Event()
        self._stops = 0
        self._since: float | None = None
        self.trouble = ""
        """Why nothing is written there now: what kept the shard from answering, or what stopped it."""
        self.stopped: str | None = None
        """Why no attempt on this shard can help until a person has mended it; None if none is known."""
        self._set(BreakerState.CLOSED)

    def _set(self, state: BreakerState) -> None:
        self.state = state
        self._gauge.set(state)

    def trip(self, why: str, sqlstate: str | None = None) -> None:
        """The shard did not answer. Not a checkpoint."""
        if self.state is BreakerState.CLOSED:
            self._begin()
            log.warning(
                "shard %s is away: %s; its partitions wait, others go on", self._name, why,
                extra=event("shard-away", shard=self._name, sqlstate=sqlstate, reason=why),
            )  # fmt: skip
            self.trouble = f"away: {why}"
            self._set(BreakerState.OPEN)
            self._closed = trio.Event()
            self._tripped.set()

    def stop(self, why: str, sqlstate: str | None = None) -> None:
        """The shard answers, but nothing can be written until a person has mended something.

        It is tried again with waits that grow until `worked` is called. Not a checkpoint.
        """
        self._begin()
        if why != self.stopped:
            log.error(
                "shard %s has stopped: %s; its partitions wait until it is mended, others go on",
                self._name,
                why,
                extra=event("shard-stopped", shard=self._name, sqlstate=sqlstate, reason=why),
            )
        self.stopped = why
        self.trouble = f"stopped: {why}"
        if self.state is BreakerState.CLOSED:
            self._stops += 1
            self._set(BreakerState.OPEN)
            self._closed = trio.Event()
            self._tripped.set()

    def worked(self) -> None:
        """Something was written. Not a checkpoint."""
        if self.stopped is not None:
            log.warning("shard %s works again", self._name, extra=self._over())
        self.stopped, self._stops, self.trouble = None, 0, ""

    async def wait_closed(self) -> None:
        """Wait until the shard can be reached. A checkpoint."""
        await self._closed.wait()

    async def watch(self, probe: Callable[[], Awaitable[object]]) -> None:
        """Probe the shard whenever it is away, until it answers. Runs until cancelled."""
        while True:
            await self._tripped.wait()
            attempt = self._stops
            still = Recurring(trio.current_time)
            still.meet("away")
            while self.state is not BreakerState.CLOSED:
                await trio.sleep(self._wait(attempt))
                attempt += 1
                self._set(BreakerState.HALF_OPEN)
                try:
                    await probe()
                except Exception as error:  # whatever it is, the shard did not answer
                    why = explain(error)
                    level, often = logging.DEBUG, ""
                    if again := still.meet("away"):
                        level, often = logging.WARNING, f" (asked {again})"
                    log.log(level, "shard %s is still away%s: %s", self._name, often, why)
                    if self.stopped is None:
                        self.trouble = f"away: {why}"
                    self._set(BreakerState.OPEN)
                else:
                    if self.stopped is None:
                        self.trouble = ""
                        log.warning("shard %s is back", self._name, extra=self._over())
                    self._tripped = trio.Event()
                    self._set(BreakerState.CLOSED)
                    self._closed.set()

    def _begin(self) -> None:
        if self._since is None:
            self._since = trio.current_time()

    def _over(self) -> dict[str, dict[str, Any]]:
        """The event of a shard that works again, with how long it did not."""
        since = trio.current_time() if self._since is None else self._since
        self._since = None
        milliseconds = (trio.current_time() - since) * 1000
        return event("shard-back", shard=self._name, milliseconds=milliseconds)

    def _wait(self, attempt: int) -> float:
        """Seconds before a probe. Where probes pass and writes fail, the writes are the probe: these cost."""
        seconds = self._backoff.seconds(attempt)
        probes_fail = self.stopped is None or attempt > self._stops
        return min(LONGEST_WAIT, seconds) if probes_fail else seconds
