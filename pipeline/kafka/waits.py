"""kafka-python's waits that time out, without the memory that they would hold.

`NetworkSelector.run` keeps the exception that it raises in a variable of its own frame, and the
exception's traceback holds that frame: a cycle. The traceback holds the frame of whoever waited too,
with the fetch that was waited for, so that what it brings later, up to 16 MB, stays in memory until
the cycle collector comes by, which is seldom (see `observe.cycles`). Where partitions are paused and
resumed, waits time out under a backlog too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaTimeoutError


class TracebackFreeLoop:
    """A fetcher's event loop, whose timeouts hold no frames."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def run(self, work: Callable[..., Any], *args: Any) -> Any:
        """As `NetworkSelector.run`."""
        try:
            return self._loop.run(work, *args)
        except KafkaTimeoutError as error:
            raise error.with_traceback(None)  # noqa: B904 (the same one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def install(consumer: Any) -> None:
    """Let a consumer's fetcher wait so."""
    consumer._fetcher._net = TracebackFreeLoop(consumer._fetcher._net)
