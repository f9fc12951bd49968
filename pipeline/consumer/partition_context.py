"""What the partition tasks of one instance share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from uuid import UUID

import attrs

from pipeline.consumer.buffer_budget import BufferBudget
from pipeline.consumer.channels import Channels
from pipeline.consumer.request_batching import RequestBatcher
from pipeline.contracts.kafka import Consumer, Position
from pipeline.contracts.store import Store
from pipeline.contracts.wishes import Wishes
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import Decoder
from pipeline.records.record import TopicPartition
from pipeline.records.rows import Shape


@attrs.frozen
class PartitionContext:
    """What all partition tasks share."""

    consumer: Consumer
    store: Store
    group: str
    decoder: Callable[[Shape | None], Decoder]
    make_channels: Callable[[], Channels]
    metrics: Metrics
    budget: BufferBudget
    wishes: Wishes = attrs.field(factory=Wishes)
    """What operators wish now: holds and pauses."""
    shard_of: Callable[[int], str] = lambda _: ""
    """The name of the shard that a partition writes to."""
    ingest_topic: str | None = None
    """The topic whose records come through the HTTP endpoint."""
    unfold: Callable[[str, int], set[int]] | None = None
    """Committed metadata and its offset → offsets applied above it; None if the store knows them."""
    positions: RequestBatcher[TopicPartition, Position] = attrs.field(init=False)
    """Where partitions stand: those that are assigned at once are asked for together."""
    topic_ids: RequestBatcher[str, UUID] = attrs.field(init=False)

    @positions.default
    def _batch_positions(self) -> RequestBatcher[TopicPartition, Position]:
        return RequestBatcher(self.consumer.positions)

    @topic_ids.default
    def _batch_topic_ids(self) -> RequestBatcher[str, UUID]:
        async def ask(topics: Collection[str]) -> dict[str, UUID]:
            return {topic: await self.consumer.topic_id(topic) for topic in topics}

        return RequestBatcher(ask)
