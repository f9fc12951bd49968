"""Python's cycle collector, run on a timer that follows what it costs.

When one of kafka-python's waits times out, it leaves a cycle behind that holds what was fetched. That
happens at idle, and hardly ever under a backlog. With the thresholds that
`spare_the_collector` sets nothing else would free these. A collection walks
through all containers that are alive, so its cost follows the records that are buffered: 10 ms
when idle, 100 ms with 40,000 records. At a fixed interval that was 10 % of the CPU with 16 partitions,
and three quarters of it while 256 partitions held half a million records.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import trio

SHORTEST_SECONDS = 2.0
SHARE = 0.01
"""The share of this thread's time that the collector may take."""


async def collect_cycles(
    collect: Callable[[], object] = gc.collect, clock: Callable[[], float] = time.thread_time
) -> None:
    """Collect every two seconds, or less often if that would cost too much. Runs until cancelled.

    ``clock`` is the CPU time of this thread, in seconds.
    """
    pause = SHORTEST_SECONDS
    while True:
        await trio.sleep(pause)
        started = clock()
        collect()
        pause = max(SHORTEST_SECONDS, (clock() - started) / SHARE)


def spare_the_collector() -> None:
    """Let Python's cycle collector run a hundred times less often.

    A buffered record is several containers, none of them in a cycle: reference counting frees them.
    At its usual thresholds the collector walks through all of them again and again, which was a
    quarter of the consumer's CPU (docs/design/experiments.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
