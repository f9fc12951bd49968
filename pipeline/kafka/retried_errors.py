"""What Kafka does not answer and may answer later: told when it begins, then once per minute."""

from __future__ import annotations

import logging
from typing import Any

import trio
from kafka.errors import KafkaError

from pipeline.kafka.errors import in_words
from pipeline.runtime.recurring import Recurring

log = logging.getLogger(__name__)


class RetriedErrors:
    """Tells of requests that failed and are made again; see `Recurring`. In Trio, not a checkpoint."""

    def __init__(self) -> None:
        self._recurring = Recurring(trio.current_time)

    def tell(
        self,
        what: str,
        error: KafkaError,
        *,
        of: str = "",
        extra: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Log it, unless the same was told less than a minute ago.

        Args:
            what: failed; with the kind of error it says what is the same.
            error: what Kafka answered.
            of: what it was done with.
            extra: the event's fields.
        """
        again = self._recurring.meet(f"{what}: {type(error).__name__}")
        if again is not None:
            details = "; ".join(filter(None, (of, again)))
            log.warning(
                "%s: %s%s", what, in_words(error), f" ({details})" if details else "", extra=extra
            )
