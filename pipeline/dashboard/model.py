"""What this instance does, as one JSON-ready document, with an hour of history.

It reads the same snapshots as the gauges do, once every `SAMPLE_SECONDS`, and nothing on the way of a
record.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import attrs
import trio

from pipeline.contracts.snapshot import PartitionSnapshot, ShardSnapshot
from pipeline.contracts.wish import Hold, Pause
from pipeline.dashboard.apart import heavy_told, hold_told, lane_told
from pipeline.dashboard.identity import Identity
from pipeline.dashboard.sampled import SampledMean, SampledRate
from pipeline.observe.counts import counts_by
from pipeline.observe.heavy import Heavy
from pipeline.observe.metrics import Metrics

SAMPLE_SECONDS = 5.0
HISTORY_SECONDS = 3600.0
HISTORY_LENGTH = int(HISTORY_SECONDS / SAMPLE_SECONDS)
MAX_CHANGES = 100
"""How many changes of the assignment are kept for the timeline."""


@attrs.frozen
class Sample:
    """All partitions at one moment: ``at`` in seconds since the epoch; None is not known.

    The rate is of records applied; of records accepted, where the instance is an ingest. Of the records
    that came through the endpoint and were applied since the sample before: how many, and how long that
    took in the mean.
    """

    at: float
    rate: float | None
    message_lag: int | None = None
    time_lag: float | None = None
    visible: int = 0
    accepted_to_visible: float | None = None


class Model(Protocol):
    """What one instance tells of itself. No method but ``run`` is a checkpoint."""

    identity: Identity

    async def run(self) -> None:
        """Take a sample every `SAMPLE_SECONDS` until cancelled."""

    def state(self) -> dict[str, Any]:
        """Return how things are now, ready for JSON; seconds and records."""

    def past(self) -> dict[str, Any]:
        """Return the history, and the changes of the assignment, oldest first."""


class HeavyUsers(Protocol):
    """Who has had most applied of late. No method is a checkpoint."""

    def top_tenants(self) -> Iterable[Heavy]:
        """Return the heaviest tenants, the heaviest first."""

    def top_keys(self) -> Iterable[Heavy]:
        """Return the heaviest keys, the heaviest first."""


@attrs.frozen
class Sources:
    """Where a `ConsumerModel` looks; each is cheap, and none is a checkpoint.

    Attributes:
        partitions: the assigned partitions as they are now.
        shards: the shards as they are now.
        pauses: the operators' pauses in force, also of what other instances have.
        holds: the operators' holds that are not over, likewise.
        topics: how many partitions each topic has, as far as Kafka has told.
        trouble: why the instance is not live or not ready, a line each.
        metrics: what was applied and refused, and how long it took.
        shard_of: the name of the shard that a partition writes to.
        usage: the heaviest tenants and keys; None if it is not said what a tenant is.
    """

    partitions: Callable[[], Collection[PartitionSnapshot]]
    shards: Callable[[], Iterable[ShardSnapshot]]
    pauses: Callable[[], Iterable[Pause]]
    holds: Callable[[], Iterable[Hold]]
    topics: Callable[[], Mapping[str, int]]
    trouble: Callable[[], Iterable[str]]
    metrics: Metrics
    shard_of: Callable[[int], str]
    usage: HeavyUsers | None = None


class ConsumerModel:
    """Collects a consumer's history, and says how things are now.

    Args:
        identity: whose.
        sources: where it looks.
        clock: the wall clock, seconds since the epoch.
    """

    def __init__(
        self, identity: Identity, sources: Sources, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.identity = identity
        self._sources = sources
        self._clock = clock
        self._history: deque[Sample] = deque(maxlen=HISTORY_LENGTH)
        self._changes: deque[dict[str, Any]] = deque(maxlen=MAX_CHANGES)
        self._rate = SampledRate(sources.metrics.applied_in_all)
        self._visible = SampledMean(sources.metrics.accepted_to_visible_seconds.labels())
        self._latencies: dict[str, SampledMean] = {}
        self._assigned: dict[str, int] = {}

    async def run(self) -> None:
        """See `Model.run`."""
        while True:
            self.sample()
            await trio.sleep(SAMPLE_SECONDS)

    def sample(self) -> None:
        """Add this moment to the history. Not a checkpoint."""
        now, found = self._clock(), list(self._sources.partitions())
        for shard in self._sources.shards():
            self._latency(shard.name).sample()
        self._visible.sample()
        visible = (self._visible.count, self._visible.mean)
        self._history.append(Sample(now, self._rate.at(now), *totals(found), *visible))
        self._note_changes(found, now)

    def _latency(self, shard: str) -> SampledMean:
        if shard not in self._latencies:
            series = self._sources.metrics.apply_seconds.labels(shard)
            self._latencies[shard] = SampledMean(series)
        return self._latencies[shard]

    def _note_changes(self, found: Iterable[PartitionSnapshot], now: float) -> None:
        assigned = {str(each.source): each.assignment_id for each in found}
        gained = sorted(key for key, value in assigned.items() if self._assigned.get(key) != value)
        lost = sorted(key for key, value in self._assigned.items() if assigned.get(key) != value)
        if gained or lost:
            self._changes.append({"at": now, "gained": gained, "lost": lost})
        self._assigned = assigned

    def state(self) -> dict[str, Any]:
        """See `Model.state`."""
        found = sorted(self._sources.partitions(), key=lambda each: each.source)
        usage = self._sources.usage
        messages, age = totals(found)
        return {
            **attrs.asdict(self.identity),
            "at": self._clock(),
            "rate": self._history[-1].rate if self._history else None,
            "message_lag": messages,
            "time_lag_seconds": age,
            "visible": self._visible.count,
            "accepted_to_visible_seconds": self._visible.mean,
            "trouble": list(self._sources.trouble()),
            "topics": dict(self._sources.topics()),
            "partitions": [
                _partition(each, self._sources.shard_of(each.source.partition)) for each in found
            ],
            "shards": [_shard(each, self._latency(each.name)) for each in self._sources.shards()],
            "pauses": [
                {"id": each.id, "what": str(each.what), "story": each.story()}
                for each in self._sources.pauses()
            ],
            "holds": [hold_told(each) for each in self._sources.holds()],
            "tenants": [heavy_told(each) for each in usage.top_tenants()] if usage else [],
            "keys": [heavy_told(each) for each in usage.top_keys()] if usage else [],
            "dead_letters": counts_by(self._sources.metrics.dead_letter_kinds, "kind"),
            "ingest": None,
        }

    def past(self) -> dict[str, Any]:
        """See `Model.past`."""
        return {
            "samples": [attrs.astuple(each) for each in self._history],
            "changes": list(self._changes),
        }


def totals(found: Collection[PartitionSnapshot]) -> tuple[int | None, float | None]:
    """The messages of all, and the age of the oldest; None where a partition's is not known yet.

    As ``pipeline lag`` adds them up.
    """
    messages = [each.message_lag for each in found if each.message_lag is not None]
    ages = [each.time_lag for each in found if each.time_lag is not None]
    return (
        sum(messages) if len(messages) == len(found) else None,
        max(ages, default=0.0) if len(ages) == len(found) else None,
    )


def _partition(found: PartitionSnapshot, shard: str) -> dict[str, Any]:
    return {
        "topic": found.source.topic,
        "partition": found.source.partition,
        "shard": shard,
        "state": found.phase.value,
        "state_seconds": found.phase_seconds,
        "watermark": found.watermark,
        "message_lag": found.message_lag,
        "time_lag_seconds": found.time_lag,
        "buffered": found.buffered,
        "answers": found.answers,
        "paused": None if found.pause is None else found.pause.story(),
        "waits_for": found.waits_for,
        "lanes": [lane_told(each) for each in found.lanes],
    }


def _shard(found: ShardSnapshot, latency: SampledMean) -> dict[str, Any]:
    return {
        "shard": found.name,
        "state": found.state.name.lower().replace("_", "-"),
        "limit": found.limit,
        "in_flight": found.in_flight,
        "busy": found.busy,
        "trouble": found.trouble,
        "transactions": latency.count,
        "latency_seconds": latency.mean,
    }
