"""One scenario, one way: load, what happens meanwhile, and what is left in the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import orjson
import trio

from bench.harness.http_client import Client
from bench.harness.open_loop import Shot, fire, steps
from bench.sync_async.figures import Run, over_time, rounded, summary
from bench.sync_async.scenarios import BEFORE, Scenario
from bench.sync_async.watching import watching
from bench.sync_async.ways import WAYS, Running
from bench.sync_async.world import HOT, World
from pipeline.local import Servers
from pipeline.local.ports import HOST

WARM_UP = 50
"""Requests before, of numbers below 0: they are in no figure."""

DRAIN_SECONDS = 60.0
QUIET_SECONDS = 2.0


def measure(
    servers: Servers, scenario: Scenario, way: str, rate: float, seconds: float
) -> dict[str, Any]:
    """Measure a way in a scenario; return figures and series."""
    with World.open(servers) as world:
        with WAYS[way](world) as running, watching(world.dsn, running.gauges) as looks:
            load = _Load(scenario, running, rate, seconds, world)
            shots = trio.run(load.run)
            _until_drained(world, {shot.number for shot in shots if shot.good})
        writes = [write for write in world.writes() if write.number >= 0]
        began = load.began
        run = Run(
            shots=[attrs.evolve(s, due=s.due - began, ended=s.ended - began) for s in shots],
            writes=[
                attrs.evolve(
                    write,
                    visible=write.visible - began,
                    queued=None if write.queued is None else write.queued - began,
                )
                for write in writes
            ],
            effects=world.effects() - WARM_UP,
            looks=[attrs.evolve(look, at=look.at - began) for look in looks if look.at >= began],
            span=(BEFORE, BEFORE + seconds),
            others=load.others() if scenario.hot else None,
        )
    return dict(rounded({**summary(run), "series": over_time(run)}))


class _Load:
    """The requests of a run.

    Attributes:
        began: when the first was due, in seconds since the epoch.
    """

    def __init__(
        self, scenario: Scenario, running: Running, rate: float, seconds: float, world: World
    ) -> None:
        self._scenario = scenario
        self._running = running
        self._rate = rate
        self._seconds = seconds
        self._world = world
        self._client = Client(HOST, running.port)
        self.began = 0.0

    async def run(self) -> Sequence[Shot]:
        """Send all; the times of what is returned are seconds since the epoch."""
        for number in range(-WARM_UP, 0):
            await self._send(number, trio.current_time())
        epoch = time.time() - trio.current_time()
        self.began = time.time()
        async with trio.open_nursery() as nursery:
            if self._scenario.fault is not None:
                nursery.start_soon(self._disturb, self._scenario.fault)
            shots = await fire(steps(self._scenario.phases(self._rate, self._seconds)), self._send)
        self._client.close()
        return [attrs.evolve(s, due=s.due + epoch, ended=s.ended + epoch) for s in shots]

    def others(self) -> frozenset[int]:
        """Return the requests that are not the hot tenant's."""
        count = sum(round(rate * seconds) for rate, seconds in self._phases())
        return frozenset(number for number in range(count) if self._app(number) != HOT)

    def _phases(self) -> Sequence[tuple[float, float]]:
        return self._scenario.phases(self._rate, self._seconds)

    def _app(self, number: int) -> str:
        return self._scenario.app(number, self._rate, self._seconds)

    async def _disturb(self, fault: Callable[[World, float], None]) -> None:
        await trio.sleep(BEFORE)
        await trio.to_thread.run_sync(fault, self._world, self._seconds)

    async def _send(self, number: int, due: float) -> int:
        body = orjson.dumps({"n": number, "app": self._app(number)})
        return await self._client.send(self._running.request(body), due)


def _until_drained(world: World, accepted: set[int]) -> None:
    """Wait until every accepted write is there and nothing more comes, or for `DRAIN_SECONDS`."""
    deadline = time.monotonic() + DRAIN_SECONDS
    count, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        numbers = {write.number for write in world.writes()}
        if len(numbers) != count:
            count, since = len(numbers), time.monotonic()
        if accepted <= numbers and time.monotonic() - since >= QUIET_SECONDS:
            return
        time.sleep(0.5)
