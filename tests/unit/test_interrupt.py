"""Ctrl-C as a cancellation."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing

from pipeline.runtime import interrupt


async def interrupted(ended: list[str]) -> None:
    try:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()
    except trio.Cancelled:
        ended.append("cancelled")
        raise


def test_ctrl_c_cancels_and_is_raised_when_all_has_ended() -> None:
    ended: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt.run(lambda: interrupted(ended))
    assert ended == ["cancelled"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_interrupts_what_takes_long_to_end() -> None:
    async def slow_to_end() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        interrupt.run(slow_to_end)


def test_results_and_errors_come_through() -> None:
    async def answer() -> int:
        return 7

    async def nothing() -> None:
        return None

    async def fail() -> None:
        raise LookupError("no")

    assert interrupt.run(answer) == 7
    assert interrupt.run(nothing) is None
    with pytest.raises(LookupError):
        interrupt.run(fail)


def test_where_it_is_ignored_it_stays_so() -> None:
    async def goes_on() -> str:
        signal.raise_signal(signal.SIGINT)
        await trio.lowlevel.checkpoint()
        return "done"

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert interrupt.run(goes_on) == "done"
    finally:
        signal.signal(signal.SIGINT, before)
