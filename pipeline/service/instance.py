"""The parts of a running instance, and how they know each other."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping
from functools import partial

import trio

from pipeline.config.model import COMMIT_SECONDS, Config
from pipeline.consumer.assignment import Supervisor
from pipeline.consumer.commits import describe_by_ledger, describe_offsets
from pipeline.consumer.lag import LagWatch, longest_lag
from pipeline.consumer.topic_watch import TopicWatch
from pipeline.consumer.usage_gauges import UsageGauges
from pipeline.contracts.presence import Presences
from pipeline.contracts.wishes import Wishes
from pipeline.dashboard.identity import Identity
from pipeline.dashboard.model import ConsumerModel, Sources
from pipeline.dashboard.serving import start_dashboard
from pipeline.kafka.announcer import announce
from pipeline.kafka.control_follower import ControlFollower
from pipeline.kafka.retention import Retention
from pipeline.observe.health import ProgressWatch
from pipeline.observe.metrics import Metrics
from pipeline.observe.process import process_source
from pipeline.observe.progress import ProgressLog
from pipeline.observe.tasks import describe_process
from pipeline.runtime.collector import collect_cycles
from pipeline.service.contexts import lane_context, may_have_lane, partition_context
from pipeline.service.reload import live
from pipeline.service.resources import Resources
from pipeline.stores import chores_of, make_store
from pipeline.supervise.consumer import ConsumerStanding
from pipeline.supervise.reload import Apply
from pipeline.supervise.stop import Stop

log = logging.getLogger(__name__)


class Instance:
    """One member of the group with all that watches it.

    Args:
        config: what to do.
        metrics: where everything is counted.
        resources: what is open for it.
        process: serves the connections of shards, until the end of the process.
    """

    def __init__(
        self, config: Config, metrics: Metrics, resources: Resources, process: trio.Nursery
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._resources = resources
        self._wishes, self._presences = Wishes(), Presences()
        self._retention = Retention(config.kafka, config.pipeline.name)
        self._health = ProgressWatch(trio.current_time, describe_process)
        consumer = resources.consumer
        reader = resources.lane_reader
        lanes = None if reader is None else lane_context(config, reader, self._retention)
        self._store = store = make_store(
            config, metrics, resources.dead_letters, process, resources.tracing,
            may_have_lane(lanes),
        )  # fmt: skip
        self._health.shards = store.snapshots
        self._context = partition_context(config, consumer, store, metrics, self._wishes, lanes)
        self.supervisor = Supervisor(
            consumer, store, self._context, metrics,
            drain_deadline=config.limits.drain_deadline,
            describe=describe_by_ledger if config.pipeline.exactly_once else describe_offsets,
            on_joined=[self._health.joined],
        )  # fmt: skip
        tasks = self.supervisor.tasks.values
        self._lags = LagWatch(
            consumer, tasks, store.answers, metrics, self._health, refused=store.refused
        )
        self._topics = TopicWatch(consumer, tasks, self.supervisor.replace, self._health)
        self.standing = ConsumerStanding(
            self._health, self._lags.snapshots, metrics.applied_in_all,
            spare_seconds=config.limits.drain_deadline + COMMIT_SECONDS,
        )  # fmt: skip

    def live(self, stop: Stop) -> Mapping[str, Apply]:
        """Return what a reload can change, and how."""
        dead_letters, resize = self._resources.dead_letters, self._store.resize_batches
        return live(self.supervisor, self._context, dead_letters, stop, resize)

    async def start(self, process: trio.Nursery, membership: trio.Nursery) -> None:
        """Start all that goes on beside the supervisor. A checkpoint.

        When it returns, HTTP is served, and what operators wish is known.

        Args:
            process: for what goes on until the end of the process: that others are told of its end must
                not keep it in the group, where its partitions would stand still meanwhile.
            membership: for what goes on while it is a member.
        """
        self._add_sources()
        self._observe(membership)
        await self._serve(process)
        membership.start_soon(self._topics.run)
        self._tidy(membership)
        membership.start_soon(self._retention.run)
        name = self._config.pipeline.name
        follower = ControlFollower(self._config.kafka, name, self._wishes, self._presences)
        await membership.start(follower.run)

    def _add_sources(self) -> None:
        """Set gauges before each scrape."""
        metrics, exposition = self._metrics, self._metrics.exposition
        exposition.add_source(process_source(metrics))
        exposition.add_source(lambda: metrics.set_shards(self._store.snapshots()))
        if self._context.usage is not None:
            gauges = UsageGauges(self._context.usage, self.supervisor.tasks.values, metrics)
            exposition.add_source(gauges.set)

    def _observe(self, nursery: trio.Nursery) -> None:
        """Start what only looks on: lags, the log of progress, the collector of cycles."""
        metrics, snapshots = self._metrics, self._lags.snapshots
        nursery.start_soon(self._lags.run)
        progress = ProgressLog(metrics.applied_in_all, snapshots, refused=metrics.refused_in_all)
        nursery.start_soon(progress.run)
        nursery.start_soon(collect_cycles)
        nursery.start_soon(_tell_tasks_on_signal)

    async def _serve(self, process: trio.Nursery) -> None:
        """Serve metrics, probes and the dashboard, where HTTP is configured."""
        config, health = self._config, self._health
        if config.http is None:
            return
        sources = Sources(
            self._lags.snapshots, self._store.snapshots, self._wishes.pauses, self._wishes.holds,
            self._resources.consumer.topic_sizes, lambda: [*health.live(), *health.ready()],
            self._metrics, self._context.shard_of, self._context.usage,
        )  # fmt: skip
        model = ConsumerModel(Identity.of(config, "run"), sources)
        tell = partial(announce, config, self._presences)
        await start_dashboard(
            process, config.http, self._metrics, health, model, self._presences, tell
        )

    def _tidy(self, nursery: trio.Nursery) -> None:
        """Start what deletes the ledgers' old rows, while there is no lag."""
        kafka = self._config.kafka
        streams = [f"{kafka.group_id}/{topic}" for topic in kafka.topics]
        lag = lambda: longest_lag(self._lags.snapshots())  # noqa: E731 (as it is then)
        nursery.start_soon(self._store.tidy, chores_of(self._config), streams, lag)


async def _tell_tasks_on_signal() -> None:
    """SIGUSR1: the task tree, and what each task waits for, to the log."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            log.warning("every task and thread:\n%s", describe_process())
