"""How soon a shard that was away is found to be back."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from pipeline.config.model import ShardConfig
from pipeline.contracts.snapshot import BreakerState
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.breaker import LONGEST_WAIT, Breaker
from pipeline.postgres.connections.bridge import Session
from pipeline.postgres.connections.shard import IDLE_SECONDS, Shard
from pipeline.runtime.backoff import Backoff
from pipeline.runtime.recurring import FORGET_SECONDS, Recurring


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


async def test_a_shard_that_stays_away_is_told_of_once_per_minute(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It was told each second, and never louder than INFO."""
    caplog.set_level(logging.INFO)
    await resumed_after(150.0, stopped=False)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("shard db0 is away: no answer")
    assert lines[-1] == "shard db0 is back"
    assert len(lines) == 4
    assert all("is still away (asked" in line for line in lines[1:3])


async def test_a_server_that_goes_while_nothing_is_written_is_noticed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/readyz` was 200 for as long as no record came."""
    shard = Shard(ShardConfig(name="db0", dsn="", connections=2), Session("test"), Metrics())
    server, closed = Server(), [False]

    async def run(_: object) -> None:
        await server.probe()

    monkeypatch.setattr(shard, "run", run)
    monkeypatch.setattr(shard, "_pool", Pool(closed))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shard._watch_idle)
        nursery.start_soon(shard.breaker.watch, server.probe)
        await trio.sleep(10 * IDLE_SECONDS)
        assert shard.breaker.state is BreakerState.CLOSED
        closed[0] = True
        await trio.sleep(2 * IDLE_SECONDS)
        assert shard.breaker.trouble == "away: nothing listens there (connection refused)"
        server.answers = True
        await shard.breaker.wait_closed()
        nursery.cancel_scope.cancel()


class Pool:
    """A pool whose server closes its idle connections once."""

    def __init__(self, closed: list[bool]) -> None:
        self._closed = closed

    def sweep(self) -> bool:
        lost, self._closed[0] = self._closed[0], False
        return lost

    def terminate_idle(self) -> None:
        """There is none."""


def test_what_recurs_is_told_at_first_and_then_once_per_minute() -> None:
    now = [0.0]
    recurring = Recurring(lambda: now[0])
    told = []
    for second in range(0, 130, 10):
        now[0] = float(second)
        told.append(recurring.meet("55P03"))
    assert [each for each in told if each is not None] == [
        "", "7 times within 60 s", "13 times within 120 s"
    ]  # fmt: skip
    assert recurring.meet("57014") == ""
    now[0] += FORGET_SECONDS + 1
    assert recurring.meet("55P03") == ""


async def test_what_is_told_of_a_shard_has_its_facts_beside_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server, breaker = Server(), Breaker("db1", Metrics(), Backoff(0.1, 60.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaker.watch, server.probe)
        breaker.trip("refused", "08001")
        await trio.sleep(3600)
        server.answers = True
        await breaker.wait_closed()
        nursery.cancel_scope.cancel()
    gone, *_, back = (vars(record) for record in caplog.records)
    assert gone["facts"] == {
        "event": "shard-away", "shard": "db1", "sqlstate": "08001", "reason": "refused"
    }  # fmt: skip
    assert back["facts"]["event"] == "shard-back"
    assert 3_600_000 <= back["facts"]["milliseconds"] <= 3_600_000 + LONGEST_WAIT * 1000
