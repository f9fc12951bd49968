"""trio-asyncio's main loop in larger steps: as the loop's own, but for how many at once."""

# ruff: noqa: ARG001 (the loop is asked for to be open)

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sniffio
import trio
import trio.lowlevel
import trio_asyncio

from pipeline.postgres.connections.bridge import cross
from pipeline.postgres.connections.loop import (
    CALLBACKS_AT_ONCE,
    FEWEST_TIMERS,
    take_larger_steps,
)


@pytest.fixture
async def loop() -> AsyncIterator[Any]:
    async with trio_asyncio.open_loop() as opened:
        assert take_larger_steps(opened), "the installed version is one that is known"
        with trio.fail_after(10):
            yield opened


async def test_callbacks_run_in_the_order_in_which_they_were_asked_for(loop: Any) -> None:
    seen: list[int] = []
    count = 3 * CALLBACKS_AT_ONCE

    async def work() -> None:
        for number in range(count):
            loop.call_soon(seen.append, number)
        await asyncio.sleep(0)

    await cross(work)
    await loop.synchronize()
    assert seen == list(range(count))


async def test_callbacks_that_wait_take_few_turns_and_others_get_theirs(loop: Any) -> None:
    turns = [0]

    async def count_turns() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns[0] += 1

    async def spin(times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await cross(spin, 20 * CALLBACKS_AT_ONCE)
        nursery.cancel_scope.cancel()
    assert 20 <= turns[0] < 60, "by the loop's own method there would be 2,000"


async def test_timers_fire_in_order_and_cancelled_ones_do_not(loop: Any) -> None:
    seen: list[str] = []

    async def work() -> None:
        fired = asyncio.Event()
        loop.call_later(0.03, seen.append, "last")
        loop.call_later(0.04, fired.set)
        cancelled = loop.call_later(0.02, seen.append, "cancelled")
        loop.call_later(0.01, seen.append, "first")
        cancelled.cancel()
        await asyncio.wait_for(fired.wait(), 30)

    await cross(work)
    assert seen == ["first", "last"]


async def test_a_timer_fires_while_callbacks_keep_the_loop_busy(loop: Any) -> None:
    async def work() -> None:
        fired = asyncio.Event()
        loop.call_later(0.01, fired.set)
        while not fired.is_set():  # noqa: ASYNC110 (to be busy is the point)
            await asyncio.sleep(0)

    await cross(work)


async def test_cancelled_timers_do_not_add_up(loop: Any) -> None:
    """Each statement starts one of half a minute, and cancels it when the answer comes."""

    async def work() -> None:
        for _ in range(5 * FEWEST_TIMERS):
            loop.call_later(35.0, gc.collect).cancel()
            await asyncio.sleep(0)

    kept: list[str] = []
    loop.call_later(0.2, kept.append, "kept")
    await cross(work)
    assert len(loop._timers) <= FEWEST_TIMERS + CALLBACKS_AT_ONCE
    await cross(asyncio.sleep, 0.25)
    assert kept == ["kept"]


async def test_what_runs_knows_that_it_is_in_asyncio(loop: Any) -> None:
    names: list[str] = []

    async def work() -> None:
        names.append(sniffio.current_async_library())
        await trio_asyncio.trio_as_aio(from_asyncio)()
        names.append(sniffio.current_async_library())

    async def from_asyncio() -> None:
        names.append(sniffio.current_async_library())
        await trio.lowlevel.checkpoint()

    await cross(work)
    assert [*names, sniffio.current_async_library()] == ["asyncio", "trio", "asyncio", "trio"]


async def test_an_error_in_a_callback_ends_neither_the_loop_nor_those_that_follow(
    loop: Any,
) -> None:
    told: list[dict[str, Any]] = []
    seen: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def work() -> None:
        loop.call_soon(lambda: 1 / 0)
        loop.call_soon(seen.append, "next")
        await asyncio.sleep(0)

    await cross(work)
    assert isinstance(told[0]["exception"], ZeroDivisionError)
    assert seen == ["next"]


async def test_another_version_of_trio_asyncio_keeps_its_own_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trio_asyncio, "__version__", "0.17.0")
    async with trio_asyncio.open_loop() as opened:
        before = opened._main_loop_one
        with caplog.at_level(logging.WARNING):
            assert not take_larger_steps(opened)
        assert opened._main_loop_one == before
        assert await cross(asyncio.sleep, 0, "answer") == "answer"
    assert "0.17.0" in caplog.text
