"""What partitions and lanes of an instance share, as the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.config.deduplication import deduplication
from pipeline.config.ingest import placement
from pipeline.config.model import Config
from pipeline.consumer.buffer_budget import BufferBudget
from pipeline.consumer.channels import Channels, KeyChannels
from pipeline.consumer.multi_key_channels import MultiKeyChannels
from pipeline.consumer.partition_context import LaneContext, PartitionContext
from pipeline.consumer.rule_index import nobody
from pipeline.consumer.usage import Usage
from pipeline.contracts import commit_metadata as metadata
from pipeline.contracts.kafka import Consumer, LaneRecords
from pipeline.contracts.rule import RuleKind
from pipeline.contracts.store import Store
from pipeline.contracts.wishes import Wishes
from pipeline.kafka.retention import Retention
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path as RecordPath
from pipeline.records.record import Record
from pipeline.records.tenant import tenant_reader
from pipeline.runtime.backoff import Backoff
from pipeline.stores import shard_name

RETRY_WAITS = Backoff(1.0, 60.0)
"""Between two attempts at a record that holds up a lane."""


def partition_context(
    config: Config,
    consumer: Consumer,
    store: Store,
    metrics: Metrics,
    wishes: Wishes,
    lanes: LaneContext | None = None,
) -> PartitionContext:
    """What all partition tasks share, as configured."""
    several = len(config.records.keys) > 1
    keys = [RecordPath.parse(key) for key in config.records.keys]
    dedupe = deduplication(config)
    reads = [] if dedupe is None else [*dedupe.reads]
    usage = None
    if config.records.tenant is not None:
        tenant = RecordPath.parse(config.records.tenant)
        reads.append(tenant)
        usage = Usage(tenant)
    make_channels: Callable[[], Channels] = MultiKeyChannels if several else KeyChannels
    return PartitionContext(
        consumer=consumer,
        store=store,
        group=config.kafka.group_id,
        decoder=partial(json_decoder, keys, reads=reads),
        make_channels=make_channels,
        metrics=metrics,
        budget=BufferBudget(
            buffered=config.limits.max_buffered,
            buffered_total=config.limits.max_buffered_total,
            buffered_bytes=config.limits.max_buffered_bytes,
            batch=config.limits.max_batch,
            batch_bytes=config.limits.max_batch_bytes,
        ),
        wishes=wishes,
        shard_of=partial(shard_name, config),
        ingest_topic=None if config.ingest is None else placement(config).topic,
        lanes=lanes,
        usage=usage,
        unfold=None if config.pipeline.exactly_once else metadata.unfold,
    )


def lane_context(config: Config, records: LaneRecords, retention: Retention) -> LaneContext:
    """What lanes share, as configured. With several keys a record only a tenant's records get a lane."""
    tenant = config.records.tenant
    kind: RuleKind | None = "key"
    if len(config.records.keys) > 1:
        kind = None if tenant is None else "tenant"
    return LaneContext(
        records=records,
        kind=kind,
        tenant_of=nobody if tenant is None else tenant_reader(RecordPath.parse(tenant)),
        most=config.limits.max_lanes,
        buffered=records_per_rule(config),
        retention=retention.seconds,
        details=config.errors.details,
        wait_after=RETRY_WAITS.seconds,
    )


def may_have_lane(lanes: LaneContext | None) -> Callable[[Record], bool]:
    """Return whether a record can wait in a lane."""
    return lambda record: lanes is not None and lanes.rule_of(record) is not None


def records_per_rule(config: Config) -> int | None:
    """How many records of whoever may get a lane a partition that fills up may hold."""
    limits, several = config.limits, len(config.records.keys) > 1
    return limits.max_buffered_per_tenant if several else limits.max_buffered_per_key
