"""Repairs of the fetcher of kafka-python 3.0.12, made from outside. Neither is fixed upstream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import KafkaTimeoutError
from kafka.net.selector import NetworkSelector


def resume_parked_fetches(fetcher: Fetcher) -> None:
    """Put what was fetched of resumed partitions back in line. Before each poll, on its thread.

    kafka-python keeps what it has fetched of a paused partition (KAFKA-7548; its pull request 2981),
    and takes it back only if no partition is in line. Two kinds are in line and give nothing:

    - One that was read to its end. If every other partition is at its end, a resumed one then waits
      until somebody produces a record elsewhere.
    - One that was paused since the last poll. The poll parks it and looks for no other: if many
      partitions are paused and resumed, every second poll waits in vain.
    """
    in_line = fetcher._next_partition_records
    if in_line is None:
        return
    if in_line:
        source = in_line.topic_partition
        if not fetcher._subscriptions.is_paused(source):
            return
        # Parked first: the I/O thread, which fetches what is neither parked nor in line, must find
        # it in one of the two.
        fetcher._paused_partition_records[source] = in_line
    fetcher._next_partition_records = None


class TracebackFreeLoop:
    """A fetcher's I/O loop, whose timeouts hold no frames.

    `NetworkSelector.run` keeps the exception that it raises in a variable of its own frame, and the
    exception's traceback holds that frame: a cycle. The traceback holds the frame of the caller that
    waited too, with the fetch that it waited for. So what that fetch brings later, up to 16 MB, stays
    in memory until the cycle collector runs, which is seldom (see `observe.cycles`). If partitions are
    paused and resumed, waits time out under a backlog too.
    """

    def __init__(self, loop: NetworkSelector) -> None:
        self._loop = loop

    def run(self, work: Callable[..., Any], *args: Any) -> Any:
        """Like `NetworkSelector.run`: blocks the calling thread until the work is done on the loop."""
        try:
            return self._loop.run(work, *args)
        except KafkaTimeoutError as error:
            raise error.with_traceback(None)  # noqa: B904 (the same one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def free_tracebacks(consumer: KafkaConsumer) -> None:
    """Make one consumer's fetcher wait on a `TracebackFreeLoop`."""
    fetcher = consumer._fetcher
    fetcher._net = TracebackFreeLoop(fetcher._net)  # type: ignore[assignment]  # stands in for it
