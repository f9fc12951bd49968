"""Whether Kafka answers: one line in the log when it stops answering, one when it answers again."""

from __future__ import annotations

import logging

import trio

from pipeline.contracts.log_events import event
from pipeline.errors import one_line

log = logging.getLogger(__name__)


class Reachability:
    """Takes note of each request that Kafka answers or not; logs the transitions only.

    In Trio; no method is a checkpoint.
    """

    def __init__(self) -> None:
        self._lost_at: float | None = None

    def failed(self, error: Exception) -> None:
        """Take note that a request was not answered."""
        if self._lost_at is None:
            self._lost_at = trio.current_time()
            log.error(
                "Kafka does not answer: what was read is still applied, the rest waits (%s)",
                one_line(error),
                extra=event("kafka-away", reason=one_line(error)),
            )

    def answered(self) -> None:
        """Take note that a request was answered."""
        if self._lost_at is not None:
            seconds = trio.current_time() - self._lost_at
            facts = event("kafka-back", milliseconds=seconds * 1000)
            log.warning("Kafka answers again, after %.0f s", seconds, extra=facts)
            self._lost_at = None
