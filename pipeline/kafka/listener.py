"""What kafka-python tells of partitions that come and go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kafka import AsyncConsumerRebalanceListener
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.contracts.kafka import Change


class Listener(AsyncConsumerRebalanceListener):
    """Posts what happens to partitions, and waits until it is carried out. On the I/O thread.

    kafka-python looks at whether its methods are coroutine functions, so they are spelt out.
    """

    def __init__(self, post: Callable[[Change, Iterable[KafkaPartition]], Awaitable[None]]) -> None:
        self._post = post

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        await self._post(Change.ASSIGNED, assigned)

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        await self._post(Change.REVOKED, revoked)

    async def on_partitions_lost(self, lost: Iterable[KafkaPartition]) -> None:
        await self._post(Change.LOST, lost)
