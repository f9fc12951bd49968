"""Another program that loads a database: ``python -m bench.harness.competing``.

So many connections each run one query after another, which only needs CPU and takes some milliseconds
in quiet. At SIGTERM a line of JSON tells how many there were and what they took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time

import asyncpg

from bench.harness.figures import Spread

QUERY = "select sum(n) from generate_series(1, 50000) n"


async def compete(dsn: str, connections: int) -> Spread:
    """Run queries until SIGTERM, and return what they took, in milliseconds."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    took: list[float] = []

    async def one() -> None:
        connection = await asyncpg.connect(dsn)
        while not stopped.is_set():
            started = time.perf_counter()
            await connection.fetchval(QUERY)
            took.append((time.perf_counter() - started) * 1000)
        await connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return Spread.of(took)


def main() -> None:
    """Compete, and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.harness.competing", description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--connections", type=int, required=True)
    options = parser.parse_args()
    spread = asyncio.run(compete(options.dsn, options.connections))
    print(json.dumps({"queries": spread.count, "p50": spread.p50, "p99": spread.p99}), flush=True)


if __name__ == "__main__":
    main()
