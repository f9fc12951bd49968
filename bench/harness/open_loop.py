"""Requests on a schedule that does not wait for answers, as wrk2 sends them.

Users don't wait for each other. A load generator that sends its next request when the last one was
answered does: while the server stalls it sends nothing, so a stall of ten seconds is one slow request
among thousands of fast ones, and the percentiles hide it (coordinated omission). Here request n is due
at a time that is known beforehand, whatever became of the others, and its latency counts from that time.
If this process itself is late, that counts too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import attrs
import trio

NO_ANSWER = 0
"""The status of a request that was not answered: refused, cut off, or over its time."""

Send = Callable[[int, float], Awaitable[int]]
"""Sends request number n, due at a time (Trio's); returns the status. Never raises an error."""


@attrs.frozen
class Shot:
    """One request. Times are Trio's, in seconds."""

    number: int
    due: float
    ended: float
    status: int

    @property
    def latency(self) -> float:
        """Seconds from when the request was due until it was answered, or given up."""
        return self.ended - self.due

    @property
    def good(self) -> bool:
        """Whether the answer was a success."""
        return 200 <= self.status < 300


def steps(phases: Iterable[tuple[float, float]]) -> Iterator[float]:
    """Return when each request is due: phases of (rate per second, seconds), one after the other.

    Within a phase requests are evenly spaced. Times count from the start of the first phase.
    """
    began = 0.0
    for rate, seconds in phases:
        for number in range(round(rate * seconds)):
            yield began + number / rate
        began += seconds


async def fire(dues: Iterable[float], send: Send) -> Sequence[Shot]:
    """Send a request whenever one is due, and wait for the last answer. A checkpoint.

    Args:
        dues: seconds from now, ascending.
        send: sends one; each call has a task of its own.
    """
    began = trio.current_time()
    shots: list[Shot] = []

    async def shoot(number: int, due: float) -> None:
        status = await send(number, due)
        shots.append(Shot(number, due, trio.current_time(), status))

    async with trio.open_nursery() as nursery:
        for number, offset in enumerate(dues):
            await trio.sleep_until(began + offset)
            nursery.start_soon(shoot, number, began + offset)
    return sorted(shots, key=lambda shot: shot.number)


async def in_turn(count: int, send: Send) -> Sequence[Shot]:
    """Send each request when the one before is answered: what this module is there to avoid.

    For comparison: see `bench.sync_async.method`. A checkpoint.
    """
    shots = []
    for number in range(count):
        due = trio.current_time()
        status = await send(number, due)
        shots.append(Shot(number, due, trio.current_time(), status))
    return shots
