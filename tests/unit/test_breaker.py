"""How soon a shard that was away is found to be back."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import trio
from trio.testing import MockClock

from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.breaker import LONGEST_WAIT, Breaker
from pipeline.runtime.backoff import Backoff


class Server:
    """What is probed."""

    def __init__(self) -> None:
        self.answers = False

    async def probe(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.answers:
            raise ConnectionRefusedError("it is not there")


async def resumed_after(away: float, *, stopped: bool) -> float:
    """Virtual seconds from the mending to the closing of a breaker that was open for so long."""
    server = Server()
    breaker = Breaker("db0", Metrics(), Backoff(0.1, 60.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaker.watch, server.probe)
        if stopped:
            breaker.stop("the table is gone")
        else:
            breaker.trip("no answer")
        await trio.sleep(away)
        server.answers = True
        mended = trio.current_time()
        await breaker.wait_closed()
        took = trio.current_time() - mended
        nursery.cancel_scope.cancel()
    return took


async def test_a_shard_that_was_long_away_is_found_soon(autojump_clock: MockClock) -> None:
    """By the back-off alone it would be half a minute."""
    assert await resumed_after(3600.0, stopped=False) <= LONGEST_WAIT


async def test_a_shard_that_was_stopped_for_long_is_found_soon(autojump_clock: MockClock) -> None:
    assert await resumed_after(3600.0, stopped=True) <= LONGEST_WAIT
