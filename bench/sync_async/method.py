"""Whether the load is measured right: an endpoint that stalls on purpose, seen by both methods.

Every `PERIOD` seconds the endpoint answers nothing for `STALL` seconds. So a fifth of the requests that
don't wait for each other meet a stall, and wait for what is left of it: of all, p90 is half a stall,
p99 95 % of one. Requests that are sent one after another meet one in thousands.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from bench.harness.drain import launched
from bench.harness.figures import percentile
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.http_client import Client, post
from bench.harness.open_loop import Shot, fire, in_turn, steps
from pipeline.local.ports import HOST, answers, free_port
from pipeline.web.binding import Tcp, listen
from pipeline.web.server import serve

PERIOD, STALL = 5.0, 1.0
RATE, SECONDS = 100.0, 20.0
EXPECTED = {"p90": STALL / 2, "p99": STALL * 0.95}


async def stalling(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """Answer, at the end of the stall if there is one."""
    into = trio.current_time() % PERIOD
    if into < STALL:
        await trio.sleep(STALL - into)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


def measured() -> dict[str, dict[str, float]]:
    """Return percentiles in seconds: of the schedule that does not wait, and of one after another."""
    port = free_port()
    directory = Path(tempfile.mkdtemp(prefix="method-"))
    command = [sys.executable, "-m", "bench.sync_async.method", str(port)]
    process = launched("stalling endpoint", command, directory / "log")
    try:
        process.wait_until(lambda: answers(port), 30.0)
        return trio.run(_both, port)
    finally:
        process.stop()


async def _both(port: int) -> dict[str, dict[str, float]]:
    client = Client(HOST, port)
    request = post(HOST, "/", b"")

    async def send(_number: int, due: float) -> int:
        return await client.send(request, due)

    schedule = await fire(steps([(RATE, SECONDS)]), send)
    started, count = time.monotonic(), 0
    turns: list[Shot] = []
    while time.monotonic() - started < SECONDS:
        turns += await in_turn(100, send)
        count += 100
    client.close()
    return {"on a schedule": _of(schedule), "one after another": _of(turns)}


def _of(shots: Any) -> dict[str, float]:
    ascending = sorted(shot.latency for shot in shots)
    found = {"p90": 0.9, "p99": 0.99, "p999": 0.999}
    return {"requests": len(ascending), **{n: percentile(ascending, s) for n, s in found.items()}}


def goals(found: dict[str, dict[str, float]]) -> list[Goal]:
    """Return whether the schedule saw the stalls as they are."""
    seen = found["on a schedule"]
    return [
        *(
            at_least(f"method: {name} ÷ expected", seen[name] / EXPECTED[name], 0.9)
            for name in EXPECTED
        ),
        *(
            at_most(f"method: {name} ÷ expected", seen[name] / EXPECTED[name], 1.1)
            for name in EXPECTED
        ),
    ]


async def main(port: int) -> None:
    """Serve the endpoint until killed."""
    await serve(stalling, await listen(Tcp(HOST, port)))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
