"""Python's cycle collector, run on a timer that follows what it costs.

kafka-python leaves a cycle behind, what it fetched among it, when a wait of its own times out: at
idle, and hardly ever under a backlog, where no wait times out. With the thresholds that
`pipeline.cli.common.spare_the_collector` sets nothing else would free these. A collection walks
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
"""What the collector may take of this thread's time."""


async def collect_cycles(
    collect: Callable[[], object] = gc.collect, clock: Callable[[], float] = time.thread_time
) -> None:
    """Collect until cancelled: every two seconds, or less often where that would cost too much.

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

    A buffered record is several containers, none of them in a cycle: reference counting frees them,
    and at its usual thresholds the collector walks through all that wait, again and again. That was
    a quarter of the consumer's CPU (docs/design/experiments.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
