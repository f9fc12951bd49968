"""The metrics of the heaviest tenants and keys, set before each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable

from pipeline.consumer.partition import PartitionTask
from pipeline.consumer.usage import Usage, keys_of
from pipeline.contracts.rule import briefly
from pipeline.contracts.snapshot import age_of
from pipeline.observe.metrics import Metrics


class UsageGauges:
    """Sets `pipeline_tenant_records_total` and `pipeline_key_waiting_seconds`. No checkpoints.

    Args:
        usage: what is known of tenants and keys.
        tasks: the partition tasks of this moment.
        metrics: where it is set.
        clock: the wall clock, seconds since the epoch, as records' timestamps.
    """

    def __init__(
        self,
        usage: Usage,
        tasks: Callable[[], Collection[PartitionTask]],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._usage = usage
        self._tasks = tasks
        self._metrics = metrics
        self._clock = clock
        self._told: dict[str, int] = {}

    def set(self) -> None:
        """Set both, of the heaviest; series of others go."""
        self._set_tenants()
        self._set_keys()

    def _set_tenants(self) -> None:
        counter = self._metrics.tenant_records
        totals = {briefly(heavy.name): heavy.records for heavy in self._usage.top_tenants()}
        for name in self._told.keys() - totals.keys():
            counter.remove(name)
        for name, total in totals.items():
            told = self._told.get(name, 0)
            if total < told:  # it was let go in between, and has come back
                counter.remove(name)
                told = 0
            counter.labels(name).inc(total - told)
        self._told = totals

    def _set_keys(self) -> None:
        gauge = self._metrics.key_waiting_seconds
        gauge.clear()
        heavy: set[Hashable] = {key.name for key in self._usage.top_keys()}
        now = self._clock()
        for task in self._tasks():
            oldest: dict[Hashable, int] = {}
            for record in task.writers.channels.waiting_records():
                for key in heavy.intersection(keys_of(record.ordering)):
                    oldest[key] = min(record.timestamp, oldest.get(key, record.timestamp))
            for key, stamp in oldest.items():
                labels = (task.source.topic, str(task.source.partition), briefly(key))
                gauge.labels(*labels).set(age_of(stamp, now))
