"""Whether this instance is a member of its group, as far as kafka-python's own tasks know.

Two things happen on kafka-python's I/O loop that no poll tells of:

- **A heartbeat ends the membership for good**: another member has the same ``group_instance_id``, or the
  right to the group was taken away. kafka-python sends no more heartbeats then, or goes on with them in
  vain, and polls as before.
- **A join ends with no partitions**: there are more members than partitions. No listener is called.
"""

from __future__ import annotations

from typing import Any

from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.errors import KafkaError

from pipeline.kafka.errors import FATAL


class Membership:
    """What became of one consumer's membership. Written on the I/O thread, read on any other."""

    def __init__(self, coordinator: ConsumerCoordinator) -> None:
        self.joined = False
        """Whether the group was ever joined."""
        self._ended: KafkaError | None = None
        self._heartbeat = coordinator._send_heartbeat_request
        coordinator._send_heartbeat_request = self._beat  # type: ignore[method-assign]

    async def _beat(self) -> Any:
        try:
            return await self._heartbeat()
        except FATAL as error:
            self._ended = error
            raise

    def raise_if_ended(self) -> None:
        """Raise what ended the membership for good.

        Raises:
            KafkaError: one of `FATAL`.
        """
        if self._ended is not None:
            raise self._ended
