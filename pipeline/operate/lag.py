"""Lag from Kafka alone: what the group has committed against where the logs end.

It works while no instance runs, and costs the brokers a handful of requests and one fetch of a single
batch for each partition that lags.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from pipeline.config.model import Config
from pipeline.contracts.snapshot import age_of, lag_between
from pipeline.contracts.wish import Pause
from pipeline.contracts.wish_codec import to_json
from pipeline.kafka.reader import FETCH_SECONDS
from pipeline.operate import control
from pipeline.operate.cluster import Cluster
from pipeline.operate.refusals import covers
from pipeline.records.record import FirstRecords, TopicPartition

ATTEMPTS = 3
APART_SECONDS = 2.0
"""What is committed and the ends of the logs are asked for again if their answers took longer."""


@attrs.frozen
class PartitionLag:
    """How far one partition is behind.

    Attributes:
        source: topic and partition.
        start: the log's first offset.
        end: the offset after the log's last record.
        committed: the group's watermark; None if it has committed none.
        message_lag: records from the watermark to the end, as offsets count them.
        time_lag: seconds since the oldest of them was made; 0 if there is none; None if it
            could not be read.
        pause: the pause that covers it; None if it may work.
    """

    source: TopicPartition
    start: int
    end: int
    committed: int | None
    message_lag: int
    time_lag: float | None
    pause: Pause | None = None


def pauses_of(cluster: Cluster) -> list[Pause] | None:
    """Return the operators' pauses; None if this user may not read the control topic."""
    try:
        return control.read(cluster).of(Pause)
    except control.Forbidden:
        return None


def measure(cluster: Cluster, config: Config, pauses: Sequence[Pause] = ()) -> list[PartitionLag]:
    """The lag of all partitions of the configured topics; each has the oldest pause that covers it.

    Raises:
        PipelineError: a topic does not exist.
    """
    sources = [source for topic in config.kafka.topics for source in cluster.partitions(topic)]
    committed, bounds = _at_once(cluster, sources)
    latest = config.kafka.options.get("auto_offset_reset", "earliest") == "latest"
    waiting = {}
    for source, (start, end) in bounds.items():
        begin = watermark(committed.get(source), start, end, latest=latest)
        if begin < end:
            waiting[source] = (begin, end)
    oldest = cluster.first_records(waiting, FETCH_SECONDS) if waiting else {}
    now = time.time()
    lags = []
    for source in sources:
        begin, end = waiting.get(source, (0, 0))
        age: float | None = 0.0
        if source in waiting:
            age = _age(oldest, source, now)
        start, log_end = bounds[source]
        waits = 0 if source in oldest and oldest[source] is None else lag_between(begin, end)
        pause = next((p for p in pauses if covers(config, p.what, source)), None)
        lags.append(PartitionLag(source, start, log_end, committed.get(source), waits, age, pause))
    return lags


def _at_once(
    cluster: Cluster, sources: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], Mapping[TopicPartition, tuple[int, int]]]:
    """Return what is committed and the bounds of the logs, as they were at about one moment.

    While a broker is away one of the two questions can take long, and what came meanwhile would look
    like lag: then both are asked again.
    """
    for _ in range(ATTEMPTS):
        began = time.monotonic()
        committed = {source: given.offset for source, given in cluster.committed(sources).items()}
        bounds = cluster.bounds(sources)
        if time.monotonic() - began < APART_SECONDS:
            break
    return committed, bounds


def watermark(committed: int | None, start: int, end: int, *, latest: bool) -> int:
    """Where the group goes on: within the log, also where retention has passed what it committed.

    A group that has committed nothing begins where ``auto_offset_reset`` says.
    """
    if committed is None:
        return end if latest else start
    return min(max(committed, start), end)


def _age(oldest: FirstRecords, source: TopicPartition, now: float) -> float | None:
    """Seconds since the oldest waiting record was produced; None if it could not be read."""
    if source not in oldest:
        return None
    record = oldest[source]
    return age_of(None if record is None else record.timestamp, now)


def totals(lags: Iterable[PartitionLag]) -> tuple[int, float | None]:
    """The messages of all, and the age of the oldest; None where not all ages could be read."""
    lags = list(lags)
    ages = [lag.time_lag for lag in lags]
    known = [age for age in ages if age is not None]
    oldest = max(known, default=0.0) if len(known) == len(ages) else None
    return sum(lag.message_lag for lag in lags), oldest


def as_json(group: str, lags: Sequence[PartitionLag]) -> dict[str, Any]:
    """The form of ``pipeline lag --json``."""
    messages, age = totals(lags)
    return {
        "group": group,
        "partitions": [
            {
                "topic": lag.source.topic,
                "partition": lag.source.partition,
                "start": lag.start,
                "end": lag.end,
                "committed": lag.committed,
                "message_lag": lag.message_lag,
                "time_lag_seconds": None if lag.time_lag is None else round(lag.time_lag, 3),
                "paused": None if lag.pause is None else to_json(lag.pause),
            }
            for lag in lags
        ],
        "total": {
            "message_lag": messages,
            "time_lag_seconds": None if age is None else round(age, 3),
        },
    }
