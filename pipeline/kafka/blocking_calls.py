"""Calls of kafka-python that block and are safe beside a poll."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class BlockingCalls:
    """Runs such calls of one consumer, each on a worker thread of its own, until the consumer closes.

    Attributes:
        closing: whether the consumer is being closed, or was.
    """

    def __init__(self) -> None:
        self.closing = False

    async def run(self, work: Callable[[], T]) -> T:
        """Run a call and return its result.

        While the consumer closes, its I/O loop may end under the call. Nobody needs the result any
        more then, and whoever closes cancels the task that waits for it: so this sleeps until then.

        A checkpoint. Cancelling waits for a call under way, which its own timeout bounds, and its
        result is returned.

        Raises:
            KafkaError: what the call raised.
        """
        try:
            return await trio.to_thread.run_sync(work)
        except RuntimeError:  # what kafka-python's I/O loop raises once it is closed
            if not self.closing:
                raise
            return await trio.sleep_forever()
