"""Ctrl-C as a cancellation, for commands that run in Trio.

Python raises KeyboardInterrupt wherever the program happens to be. In the middle of asyncpg's compiled
parser that leaves a half-read message, and the next bytes from the server end the process with a
segmentation fault (seen in one of ten interruptions of a busy demo). A cancelled task ends at an
await.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run an async function in Trio; the first Ctrl-C cancels it, a second one interrupts at once.

    If SIGINT is ignored (a job in the background) or handled already, it stays so.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; ``work`` has ended.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return trio.run(work)
    try:
        results = trio.run(partial(_until_interrupted, work))
    except BaseExceptionGroup as group:  # the second one, wherever it struck
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from None
    if not results:
        raise KeyboardInterrupt
    return results[0]


async def _until_interrupted(work: Callable[[], Awaitable[T]]) -> list[T]:
    """Return the result in a list; an empty one if Ctrl-C cancelled the work."""
    results: list[T] = []
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_on_signal, nursery.cancel_scope)
        try:
            results.append(await work())
        except Exception as error:  # raised below, outside the group that a nursery makes
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return results


async def _cancel_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
