"""Whether this process is alive and ready, and the watch that finds a partition standing still.

A pipeline can hang without failing: a rebalance that ends wrong, a lost wake-up, a transaction that
waits for ever. Lag alone doesn't tell, since a slow database or a spike makes lag too. What does tell
is lag while the watermark stands still *and* the shard answers: then nobody outside is to blame.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

from pipeline.contracts.log_events import event
from pipeline.contracts.snapshot import DEAD_LETTERS, PartitionSnapshot, ShardSnapshot
from pipeline.contracts.wish import Hold, HoldState
from pipeline.records.record import TopicPartition

log = logging.getLogger(__name__)

STALL_SECONDS = 60.0
"""How long a watermark may stand still while records wait and the shard answers."""


class Health(Protocol):
    """What the HTTP endpoint asks. Called at each request: must not block or checkpoint."""

    def live(self) -> list[str]:
        """Reasons to restart this process, a line each; none when it is live."""

    def ready(self) -> list[str]:
        """Reasons why it doesn't do its work yet, a line each; none when it is ready."""

    def notes(self) -> list[str]:
        """What somebody should know who finds it ready: what operators have paused and held, a line each."""


@attrs.define
class _Watched:
    snapshot: PartitionSnapshot
    since: float


class ProgressWatch:
    """The `Health` of a consumer: live while its partitions move, ready while it can do its work.

    Args:
        clock: seconds that only grow, such as ``trio.current_time``.
        describe: the state of every task and thread, for the log; called once per stall.
        stall_seconds: how long a partition may stand still.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        describe: Callable[[], str],
        *,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._clock = clock
        self._describe = describe
        self._stall_seconds = stall_seconds
        self._watched: dict[TopicPartition, _Watched] = {}
        self._reasons: list[str] = []
        self._joined = False
        self._missing: list[str] = []
        self.shards: Callable[[], Iterable[ShardSnapshot]] = tuple
        """The shards as they are now."""

    def missing_topics(self, topics: Iterable[str]) -> None:
        """Which of the topics do not exist, as of the last look."""
        self._missing = sorted(topics)

    def joined(self) -> None:
        """The consumer group has been joined: ready from now on."""
        self._joined = True

    def feed(self, partitions: Iterable[PartitionSnapshot]) -> None:
        """Look at every assigned partition, once a second; those left out have gone.

        At the first stall the description of every task is logged; again only after it has passed.
        Does not checkpoint.
        """
        now = self._clock()
        before, self._watched = self._watched, {}
        for found in partitions:
            since = _standing_since(before.get(found.source), found, now)
            self._watched[found.source] = _Watched(found, since)
        was_live = not self._reasons
        self._reasons = [
            _sentence(watched.snapshot, now - watched.since)
            for watched in map(self._watched.__getitem__, self._stalled())
        ]
        self._log_change(was_live)

    def _stalled(self) -> list[TopicPartition]:
        """The partitions that have stood still for too long."""
        now = self._clock()
        return [
            source
            for source, watched in sorted(self._watched.items())
            if now - watched.since >= self._stall_seconds
        ]

    def _log_change(self, was_live: bool) -> None:
        if self._reasons and was_live:
            stalls = "\n".join(self._reasons)
            log.error(
                "not live any more:\n%s\nevery task and thread:\n%s", stalls, self._describe(),
                extra=event("stalled", partitions=self._stalled()),
            )  # fmt: skip
        elif not self._reasons and not was_live:
            facts = event("stall-over")
            log.warning("live again: no partition stands still any more", extra=facts)

    def standing_seconds(self, source: TopicPartition) -> float:
        """How long a partition has stood still without a good reason; 0 if it was never fed."""
        watched = self._watched.get(source)
        return 0.0 if watched is None else self._clock() - watched.since

    def live(self) -> list[str]:
        """A sentence for each partition that stands still, as of the last `feed`."""
        return list(self._reasons)

    def ready(self) -> list[str]:
        """Why not: until the group has been joined, without a topic, and while no database answers."""
        if self._missing:
            return [f"topic {topic} does not exist" for topic in self._missing]
        if not self._joined:
            return ["the consumer group has not been joined yet"]
        if self._watched and not any(each.snapshot.answers for each in self._watched.values()):
            waits = [each.snapshot.waits_for for each in self._watched.values()]
            if letters := waits.count(DEAD_LETTERS):
                here = f"{letters} of the {len(waits)} partitions here"
                return [f"{here} wait for {DEAD_LETTERS}, and the others for their database"]
            return [f"no database of the {len(waits)} partitions here answers"]
        return []

    def notes(self) -> list[str]:
        """Shards that nothing is written to, and why; what is paused and held; that this is a spare."""
        if not self._watched and not self.ready():
            return ["no partitions: spare"]
        troubled = [
            f"shard {each.name} is {each.trouble}" for each in self.shards() if each.trouble
        ]
        found = [each.snapshot for each in self._watched.values()]
        return troubled + paused_lines(found) + held_lines(found)


def paused_lines(snapshots: Iterable[PartitionSnapshot]) -> list[str]:
    """Return a line for each pause that partitions obey: what, by whom, since when, why."""
    stopped = Counter(found.pause for found in snapshots if found.pause is not None)
    return [
        f"paused: {pause.what} ({_partitions(count)} here), {pause.story()}"
        for pause, count in sorted(stopped.items(), key=lambda each: each[0].since)
    ]


def held_lines(snapshots: Iterable[PartitionSnapshot]) -> list[str]:
    """Return a line for each hold that lanes obey: by whom, since when, why; without whose records wait.

    Probes and logs are read by many, and keys and tenants may be people.
    """
    held: dict[Hold, list[tuple[TopicPartition, int]]] = {}
    for found in snapshots:
        for lane in found.lanes:
            if lane.hold is not None and lane.hold.state is not HoldState.DROPPING:
                held.setdefault(lane.hold, []).append((found.source, lane.waiting))
    return [
        f"held: {hold.id} ({sum(waiting for _, waiting in lanes)} records in"
        f" {_partitions(len({source for source, _ in lanes}))} here), {hold.story()}"
        for hold, lanes in sorted(held.items(), key=lambda each: each[0].since)
    ]


def _partitions(count: int) -> str:
    return f"{count} partition{'' if count == 1 else 's'}"


def _standing_since(before: _Watched | None, found: PartitionSnapshot, now: float) -> float:
    """When the partition was last seen to move, or to have a good reason not to."""
    if before is None or not found.message_lag or not found.answers or found.pause is not None:
        return now
    if found.kept_back:  # it goes on when a lane is closed, by whoever mends what holds that up
        return now
    # A transaction that was refused has ended: what it waits for, such as a lock, outlives a restart.
    moved = found.watermark != before.snapshot.watermark or found.refused != before.snapshot.refused
    return now if moved else before.since


def _sentence(found: PartitionSnapshot, seconds: float) -> str:
    return (
        f"{found.source} has stood at offset {found.watermark or 0} for {seconds:.0f} s while"
        f" {found.message_lag} records wait and its shard answers; it waits for {found.waits_for}"
    )
