"""How a partition and a shard are, as frozen facts: for gauges, health, dashboard and commands.

Snapshots are made by whoever knows the facts, and given to whoever shows them. Nobody who shows them
touches what they describe.
"""

from __future__ import annotations

from enum import Enum, IntEnum

import attrs

from pipeline.contracts.lane import LaneFailure, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.wish import Hold, Pause
from pipeline.records.record import TopicPartition

DEAD_LETTERS = "the dead letter topic"
"""What a partition waits for whose dead letter is not acknowledged yet."""


class Phase(Enum):
    """Where a partition task is in its life."""

    OPENING = "taking over"
    RUNNING = "running"
    DRAINING = "draining"
    ENDED = "ended"


class BreakerState(IntEnum):
    """Whether a shard can be reached. The values are those of the metric ``pipeline_shard_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@attrs.frozen
class LaneSnapshot:
    """One lane that is open, at one moment.

    Attributes:
        number: unlike that of any other lane of the partition.
        rule: whose records wait in it.
        reason: why it was opened.
        state: what it does, for people: working, held, dropping, retrying, waits for earlier records.
        waiting: how many records wait; a few more, if a former owner had passed over some of them.
        time_lag: seconds since the oldest of them was produced, as far as is known; 0 if none waits.
        opened_at: seconds since the epoch.
        hold: the operator's hold that it obeys; None if it may work.
        retention: seconds until Kafka may delete the oldest of them; None if none waits, or it is not known.
        failure: the record that can't be applied, and holds up the others; None: none.
    """

    number: int
    rule: Rule
    reason: LaneReason
    state: str = "working"
    waiting: int = 0
    time_lag: float = 0.0
    opened_at: float = 0.0
    hold: Hold | None = None
    retention: float | None = None
    failure: LaneFailure | None = None


@attrs.frozen
class PartitionSnapshot:
    """One assigned partition, at one moment.

    Attributes:
        source: topic and partition.
        assignment_id: grows with each assignment, so that two of one partition are told apart.
        phase: where the partition's task is in its life.
        phase_seconds: for how long it has been there.
        watermark: the lowest offset not yet applied; None until it is known.
        log_start: the log's first offset; None until it is known.
        log_end: the offset after the log's last record; None until it is known.
        message_lag: records from the watermark to the log's end, as offsets count them; None while
            either is unknown.
        time_lag: seconds since the oldest of them was produced, 0 if none waits; None while unknown.
        buffered: records held here: not yet decoded, waiting for their keys, or in flight, in lanes too.
        in_flight: how many of them are in transactions.
        keys: how many keys they have, as far as they are decoded.
        paused: whether fetching is paused because enough is buffered, or an operator paused all of it.
        answers: whether the partition's shard, and what its handler calls, are there as far as known.
        refused: how many of its transactions the database has refused for now, as for a lock that another
            program holds.
        kept_back: whether it waits for a lane that it may not open yet.
        pause: the operator's pause that it obeys; None if it may work.
        waits_for: what the partition waits for, for people.
        lanes: what waits in lanes, and counts neither in the lags nor in the watermark.
    """

    source: TopicPartition
    assignment_id: int = 0
    phase: Phase = Phase.RUNNING
    phase_seconds: float = 0.0
    watermark: int | None = None
    log_start: int | None = None
    log_end: int | None = None
    message_lag: int | None = None
    time_lag: float | None = None
    buffered: int = 0
    in_flight: int = 0
    keys: int = 0
    paused: bool = False
    answers: bool = True
    refused: int = 0
    kept_back: bool = False
    pause: Pause | None = None
    waits_for: str = "records from Kafka"
    lanes: tuple[LaneSnapshot, ...] = ()


@attrs.frozen
class ShardSnapshot:
    """One shard, at one moment.

    Attributes:
        name: as the configuration calls it.
        state: of the breaker.
        limit: how many transactions may run at once.
        in_flight: how many do: batches that are written, partitions that are taken over.
        busy: connections in use, for whatever it is.
        trouble: why nothing is written there, without values of records; empty if nothing hinders it.
    """

    name: str
    state: BreakerState
    limit: int
    in_flight: int
    busy: int = 0
    trouble: str = ""


def lag_between(begin: int, end: int) -> int:
    """The message lag from the first offset that waits to the log's end; never below 0.

    Kafka counts offsets, and some are no records (compacted ones, markers of transactions), so the
    lag can be above the number of records that wait.
    """
    return max(0, end - begin)


def age_of(timestamp: int | None, now: float) -> float:
    """Seconds from a record's timestamp, in milliseconds, to ``now``; 0 without a timestamp."""
    if timestamp is None or timestamp < 0:
        return 0.0
    return max(0.0, now - timestamp / 1000)
