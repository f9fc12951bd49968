"""What the partition tasks of one instance share."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from uuid import UUID

import attrs

from pipeline.consumer.buffer_budget import BufferBudget
from pipeline.consumer.channels import Channels
from pipeline.consumer.request_batching import RequestBatcher
from pipeline.consumer.rule_index import nobody, rule_of
from pipeline.consumer.usage import Usage
from pipeline.contracts.kafka import Consumer, LaneRecords, Position
from pipeline.contracts.rule import Rule, RuleKind
from pipeline.contracts.store import Store
from pipeline.contracts.wishes import Wishes
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import Decoder
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape
from pipeline.records.tenant import TenantOf


@attrs.define
class LaneContext:
    """What the lanes of all partitions share. What is counted may be set while they run.

    Attributes:
        records: what reads a partition once more.
        kind: whose records get a lane of themselves, a key's or a tenant's; None: nobody's.
        tenant_of: a record's tenant.
        most: lanes that a partition may have.
        buffered: records of one key, or of one tenant, that a partition may hold when it fills up; None: a
            quarter of what it holds.
        clock: seconds since the epoch.
        retention: for how many seconds a topic's records are kept; None where that is not known.
        details: whether the log may name keys and tenants.
        wait_after: how many seconds a lane waits after a record has failed, by how often it failed before.
    """

    records: LaneRecords
    kind: RuleKind | None = "key"
    tenant_of: TenantOf = nobody
    most: int = 64
    buffered: int | None = None
    clock: Callable[[], float] = time.time
    retention: Callable[[str], float | None] = lambda _: None
    details: bool = False
    wait_after: Callable[[int], float] = lambda failures: min(2.0**failures, 60.0)

    def rule_of(self, record: Record) -> Rule | None:
        """Return whose lane a record would be in; None: it can have none."""
        return None if self.kind is None else rule_of(record, self.kind, self.tenant_of)


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
    usage: Usage | None = None
    """What each tenant and key has had applied; None: no tenant is configured."""
    ingest_topic: str | None = None
    """The topic whose records come through the HTTP endpoint."""
    lanes: LaneContext | None = None
    """None: there are no lanes, since no ledger knows of them."""
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
