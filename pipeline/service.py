"""The composition root: the only module that knows both sides.

run
├── shard …      connections and breaker of each database
├── supervisor   assignment, partition tasks, commits
├── http         / /metrics /livez /readyz
├── reports      what the service manager is told, if there is one
└── signals      SIGTERM, SIGINT, SIGHUP: drain, commit, leave; a second one, or one too early: cancel
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import trio

from pipeline.config.deduplication import deduplication
from pipeline.config.ingest import placement
from pipeline.config.model import COMMIT_SECONDS, Config
from pipeline.consumer.assignment import Supervisor
from pipeline.consumer.buffer_budget import BufferBudget
from pipeline.consumer.channels import Channels, KeyChannels
from pipeline.consumer.lag import LagWatch, longest_lag
from pipeline.consumer.multi_key_channels import MultiKeyChannels
from pipeline.consumer.partition import PartitionTask
from pipeline.consumer.partition_context import LaneContext, PartitionContext
from pipeline.consumer.rule_index import nobody
from pipeline.consumer.topic_watch import TopicWatch
from pipeline.consumer.usage import Usage
from pipeline.consumer.usage_gauges import UsageGauges
from pipeline.contracts import commit_metadata as metadata
from pipeline.contracts.kafka import LaneRecords
from pipeline.contracts.presence import Presences
from pipeline.contracts.rule import RuleKind
from pipeline.contracts.store import DeadLetters
from pipeline.contracts.wishes import Wishes
from pipeline.dashboard.identity import Identity
from pipeline.dashboard.model import ConsumerModel, Sources
from pipeline.dashboard.serving import start_dashboard
from pipeline.kafka.announcer import announce
from pipeline.kafka.client import KafkaClient
from pipeline.kafka.control_follower import ControlFollower
from pipeline.kafka.dead_letters import DeadLetterTopic, NoDeadLetters
from pipeline.kafka.lane_reader import LaneReader
from pipeline.kafka.retention import Retention
from pipeline.kafka.rights import demand_rights
from pipeline.observe.health import ProgressWatch
from pipeline.observe.metrics import Metrics
from pipeline.observe.process import process_source
from pipeline.observe.progress import ProgressLog
from pipeline.observe.tasks import describe_process
from pipeline.observe.tracing import Tracing, open_tracing
from pipeline.postgres.connections.bridge import open_bridge
from pipeline.postgres.connections.errors import sqlstate_of
from pipeline.postgres.store.store_router import StoreRouter
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path as RecordPath
from pipeline.records.tenant import tenant_reader
from pipeline.runtime import signals
from pipeline.runtime.collector import collect_cycles
from pipeline.stores import chores_of, make_store, shard_name
from pipeline.supervise.consumer import ConsumerStanding
from pipeline.supervise.reload import Apply
from pipeline.supervise.reports import Reports
from pipeline.supervise.stop import Stop
from pipeline.supervise.supervision import Supervision

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
"""What leaving the group may take, and no more: longer than the consumer's own deadline."""


LIVE = (
    "limits.max_buffered",
    "limits.max_buffered_total",
    "limits.max_buffered_bytes",
    "limits.max_buffered_per_key",
    "limits.max_buffered_per_tenant",
    "limits.max_lanes",
    "limits.max_batch",
    "limits.max_batch_bytes",
    "limits.drain_deadline",
    "errors.max_dead_letters_per_minute",
)
"""What a reload can change."""

UNUSED = ("ingest",)
"""Sections of the configuration that are for others."""


async def run(
    config: Config,
    supervision: Supervision = Supervision(),  # noqa: B008 (frozen)
    *,
    task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Consume until SIGTERM, SIGINT or SIGHUP, or until a task fails. On the main thread.

    Under a service manager (``supervision``) SIGHUP reads the configuration again instead.

    Raises:
        PipelineError: a person must mend something; perhaps several, in an exception group.
    """
    metrics = Metrics()
    metrics.exposition.add_source(process_source(metrics))
    health = ProgressWatch(trio.current_time, describe_process)
    with signals.received() as received:
        async with open_bridge(), trio.open_nursery() as process:
            reports = Reports(supervision.notifier)
            process.start_soon(reports.run)
            stop = Stop(process.cancel_scope, reports, stop_seconds(config))
            process.start_soon(stop.carry_out, received)
            await demand_rights(config.kafka, config.pipeline.name)
            async with (
                _open_dead_letters(config, metrics, process) as dead_letters,
                _open_tracing() as tracing,
                _open_consumer(config) as consumer,
                _open_lane_reader(config) as reader,
            ):
                store = make_store(config, metrics, dead_letters, process, tracing)
                health.shards = store.snapshots
                wishes, presences = Wishes(), Presences()
                retention = Retention(config.kafka, config.pipeline.name)
                lanes = None if reader is None else lane_context(config, reader, retention)
                context = partition_context(config, consumer, store, metrics, wishes, lanes)
                supervisor = Supervisor(
                    consumer, store, context, metrics,
                    drain_deadline=config.limits.drain_deadline,
                    describe=_ledger_knows if config.pipeline.exactly_once else _commit_metadata,
                    on_joined=[health.joined],
                )  # fmt: skip
                watch = LagWatch(consumer, supervisor.tasks.values, store.answers, metrics, health)
                topics = TopicWatch(consumer, supervisor.tasks.values, supervisor.replace, health)
                standing = ConsumerStanding(
                    health, watch.snapshots, metrics.applied_in_all,
                    spare_seconds=config.limits.drain_deadline + COMMIT_SECONDS,
                )  # fmt: skip
                reports.tell_of(standing)
                if context.usage is not None:
                    gauges = UsageGauges(context.usage, supervisor.tasks.values, metrics)
                    metrics.exposition.add_source(gauges.set)
                live = _live(supervisor, context, store, dead_letters, stop)
                async with trio.open_nursery() as membership:
                    metrics.exposition.add_source(lambda: metrics.set_shards(store.snapshots()))
                    _observe(watch, metrics, membership)
                    sources = Sources(
                        watch.snapshots, store.snapshots, wishes.pauses, wishes.holds,
                        consumer.topic_sizes, lambda: [*health.live(), *health.ready()], metrics,
                        context.usage,
                    )  # fmt: skip
                    await _serve(config, sources, health, presences, process)
                    membership.start_soon(topics.run)
                    streams = [f"{config.kafka.group_id}/{topic}" for topic in config.kafka.topics]
                    lag = lambda: longest_lag(watch.snapshots())  # noqa: E731 (as it is then)
                    membership.start_soon(store.tidy, chores_of(config), streams, lag)
                    membership.start_soon(retention.run)
                    await membership.start(
                        ControlFollower(config.kafka, config.pipeline.name, wishes, presences).run
                    )
                    task_status.started(supervisor)
                    reload = supervision.reloading(config, live, UNUSED)
                    with stop.draining_by(supervisor.stop, reload):
                        await supervisor.run()
                    membership.cancel_scope.cancel()
            process.cancel_scope.cancel()


def stop_seconds(config: Config) -> float:
    """Return what a stop may take: the drain, Kafka's answers, and the end of every connection."""
    return config.limits.drain_deadline + COMMIT_SECONDS + 2 * CLOSE_SECONDS


def _live(
    supervisor: Supervisor,
    context: PartitionContext,
    store: StoreRouter,
    dead_letters: DeadLetters,
    stop: Stop,
) -> Mapping[str, Apply]:
    """Return what a reload can change, and how."""

    def limits(config: Config) -> None:
        given, budget = config.limits, context.budget
        budget.buffered, budget.buffered_total = given.max_buffered, given.max_buffered_total
        budget.buffered_bytes = given.max_buffered_bytes
        budget.batch, budget.batch_bytes = given.max_batch, given.max_batch_bytes
        if context.lanes is not None:
            context.lanes.most, context.lanes.buffered = given.max_lanes, _per_rule(config)
        store.resize_batches(given.max_batch)
        supervisor.drain_seconds, stop.seconds = given.drain_deadline, stop_seconds(config)
        if isinstance(dead_letters, DeadLetterTopic):
            dead_letters.max_per_minute = config.errors.max_dead_letters_per_minute

    return dict.fromkeys(LIVE, limits)


def _observe(watch: LagWatch, metrics: Metrics, nursery: trio.Nursery) -> None:
    """Start what only looks on: lags, the log of progress, the collector of cycles."""
    nursery.start_soon(watch.run)
    nursery.start_soon(
        ProgressLog(metrics.applied_in_all, watch.snapshots, refused=metrics.refused_in_all).run
    )
    nursery.start_soon(collect_cycles)
    nursery.start_soon(_tell_tasks_on_signal)


async def _serve(
    config: Config,
    sources: Sources,
    health: ProgressWatch,
    presences: Presences,
    process: trio.Nursery,
) -> None:
    """Serve metrics, probes and the dashboard, where HTTP is configured.

    Of the process, and not of the membership: that others are told of its end must not keep it in the
    group, where its partitions would stand still meanwhile.
    """
    if config.http is not None:
        model = ConsumerModel(Identity.of(config, "run"), sources)
        tell = partial(announce, config, presences)
        await start_dashboard(process, config.http, sources.metrics, health, model, presences, tell)


async def _tell_tasks_on_signal() -> None:
    """SIGUSR1: the task tree, and what each task waits for, to the log."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            log.warning("every task and thread:\n%s", describe_process())


def partition_context(
    config: Config,
    consumer: KafkaClient,
    store: StoreRouter,
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
    overflow: RuleKind | None = "key"
    if len(config.records.keys) > 1:
        overflow = None if tenant is None else "tenant"
    return LaneContext(
        records=records,
        overflow=overflow,
        tenant_of=nobody if tenant is None else tenant_reader(RecordPath.parse(tenant)),
        most=config.limits.max_lanes,
        buffered=_per_rule(config),
        retention=retention.seconds,
        details=config.errors.details,
    )


def _per_rule(config: Config) -> int | None:
    """How many records of whoever may get a lane a full partition may hold."""
    limits, several = config.limits, len(config.records.keys) > 1
    return limits.max_buffered_per_tenant if several else limits.max_buffered_per_key


def _ledger_knows(task: PartitionTask) -> str:
    """The text to commit along with a watermark when the ledger knows what is above it."""
    return "" if task.claim is None else metadata.ledger(task.claim.topic_id)


def _commit_metadata(task: PartitionTask) -> str:
    """The text to commit along with a partition's watermark."""
    watermark = task.offsets.watermark
    return "" if watermark is None else metadata.encode(watermark, task.offsets.completed_ranges())


@asynccontextmanager
async def _open_dead_letters(
    config: Config, metrics: Metrics, nursery: trio.Nursery
) -> AsyncIterator[DeadLetters]:
    topic = config.errors.dead_letter_topic
    if topic is None:
        yield NoDeadLetters()
        return
    dead_letters = await DeadLetterTopic.open(
        config.kafka, topic, config.pipeline.name, config.errors.max_dead_letters_per_minute
    )
    metrics.exposition.add_source(lambda: metrics.dead_letters_waiting.set(dead_letters.waiting))
    nursery.start_soon(dead_letters.tell_waiting)
    try:
        yield dead_letters
    finally:
        await _within(CLOSE_SECONDS, dead_letters.close)  # noqa: ASYNC102 (it shields)


@asynccontextmanager
async def _open_consumer(config: Config) -> AsyncIterator[KafkaClient]:
    consumer = await KafkaClient.open(config.kafka, config.pipeline.name)
    try:
        yield consumer
    finally:
        # The group must be left, so that its partitions move at once and not when the session times out.
        await _within(CLOSE_SECONDS, consumer.close)  # noqa: ASYNC102 (it shields)


@asynccontextmanager
async def _open_tracing() -> AsyncIterator[Tracing | None]:
    tracing = open_tracing(os.environ, sqlstate_of)
    try:
        yield tracing
    finally:
        if tracing is not None:
            close = partial(trio.to_thread.run_sync, tracing.close, abandon_on_cancel=True)
            await _within(CLOSE_SECONDS, close)  # noqa: ASYNC102 (it shields)


@asynccontextmanager
async def _open_lane_reader(config: Config) -> AsyncIterator[LaneReader | None]:
    """None without a ledger, which would know what lanes have: then there are none."""
    if not config.pipeline.exactly_once:
        yield None
        return
    reader = LaneReader(config.kafka, config.pipeline.name)
    try:
        yield reader
    finally:
        await _within(CLOSE_SECONDS, reader.close)  # noqa: ASYNC102 (it shields)


async def _within(seconds: float, close: Callable[[], Awaitable[None]]) -> None:
    """Close, whatever is cancelled around it, for so long at most."""
    with trio.move_on_after(seconds, shield=True):
        await close()
