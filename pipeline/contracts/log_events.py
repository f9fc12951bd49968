"""What a line of the log says to programs: the event's name, and its facts as fields.

A line of text is for people, and stays as it is. Whoever looks for a shard or counts events wants names
and numbers by themselves; the formats ``json`` and ``journald`` show these (`pipeline.observe.logging`).
One event is one change of state; names of events and fields are public. No field ever has a value of a
record, unless ``[errors] details`` asks for it; what an operator named is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.records.record import TopicPartition

ATTRIBUTE = "facts"
"""The attribute of a log record that holds the fields."""

EVENTS: Mapping[str, str] = {
    "assigned": "the group has given partitions to this instance",
    "revoked": "the group takes partitions from this instance: they are drained",
    "lost": "this instance was no member any more, and its partitions may be another's already",
    "started": "a partition was taken over; it starts at `offset`",
    "set-back": "the group's offset was moved back from outside, to `offset`, and the ledger knows better",
    "moved-ahead": "the group's offset was moved ahead from outside, to `offset`",
    "ledger-unknown": "the ledger knows nothing of a partition whose `offset` is committed",
    "ended": "a partition was handed over or stopped; its watermark is `offset`",
    "fenced": "another instance has taken over; what was not committed is its business",
    "taken-over-anew": "a partition is taken over again, because of `reason`",
    "paused": "a partition obeys an operator's pause",
    "resumed": "an operator's pause of a partition has ended",
    "limited": "a tenant may send so many records per second, as an operator wishes; `reason` says who",
    "unlimited": "a tenant has no limit of its own any more",
    "shard-away": "a database does not answer; its partitions wait",
    "shard-stopped": "a database refuses what a person must mend; its partitions wait",
    "shard-back": "a database that was away or had stopped works again",
    "retried": "a transaction failed and is tried again",
    "dead-letter": "a record was refused and kept on the dead letter topic",
    "lane-opened": "records of one key or tenant go a way of their own from `offset` on, because of `reason`",
    "lane-closed": "a lane has caught up: from `offset` on its records go the main way again",
    "lanes-full": "a partition has as many lanes as it may; what needs another one holds up the others",
    "lane-near-retention": "Kafka may delete what waits in a lane soon",
    "dropped": "records of a lane were skipped, or the first became a dead letter, as `wish` asks",
    "lane-held-up": "the record at `offset` can't be applied; it is tried again, and its key waits",
    "lane-goes-on": "the record at `offset` holds up its key no more",
    "given-up": "a record is given up, because of `reason`, and becomes a dead letter",
    "dead-letters-wait": "the dead letter topic does not take a record, because of `reason`",
    "dead-letters-kept": "a dead letter topic that took no records takes them again",
    "reapplied": "a database lost commits: `records` below `offset` are applied again",
    "records-lost": "Kafka deleted records from `offset` to before `until`, or `records` with their topic",
    "topic-missing": "a topic does not exist",
    "topic-there": "a topic that did not exist does",
    "topic-made-anew": "a topic was deleted and made anew",
    "kafka-away": "Kafka does not answer",
    "kafka-back": "Kafka answers again, after `milliseconds`",
    "stalled": "partitions stand still though their databases answer",
    "stall-over": "no partition stands still any more",
    "receipts-away": "a ledger can't be asked what became of records",
    "receipts-back": "a ledger that could not be asked answers again",
    "not-accepting": "the endpoint accepts nothing, because of `reason`",
    "accepting": "the endpoint accepts records",
    "stopping": "a signal stops the process; `reason` says which, and how",
    "stopped": "the process has ended: it applied so many `records`, in so many `milliseconds`",
    "reloaded": "the configuration was read again; `reason` names what changed",
    "not-reloaded": "the configuration is as before, because of `reason`",
    "not-committed": "Kafka did not take offsets; they are committed later",
}
"""Every event and what it says; docs/operations/health.md has the table."""


def event(
    name: str,
    *,
    source: TopicPartition | None = None,
    topic: str | None = None,
    partitions: Iterable[TopicPartition] | None = None,
    shard: str | None = None,
    offset: int | None = None,
    until: int | None = None,
    records: int | None = None,
    sqlstate: str | None = None,
    milliseconds: float | None = None,
    reason: str | None = None,
    lane: int | None = None,
    key: str | None = None,
    tenant: str | None = None,
    wish: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the ``extra`` of a log call; what is None is left out. Not a checkpoint.

    Args:
        name: one of `EVENTS`.
        source: the partition; shown as ``topic`` and ``partition``.
        topic: the topic alone.
        partitions: several, such as those that a rebalance moves.
        shard: as the configuration calls it.
        offset: where something begins, or stands.
        until: the offset after the last one.
        records: how many.
        sqlstate: Postgres's code of the error.
        milliseconds: how long it took.
        reason: why, in words that are in the line too; no value of a record.
        lane: its number in the partition.
        key: whose records, as the next.
        tenant: whose records, if an operator named it, or if ``[errors] details`` allows to.
        wish: the hold, pause or limit that it obeys.
    """
    facts = {
        "event": name,
        "topic": topic if source is None else source.topic,
        "partition": None if source is None else source.partition,
        "partitions": None if partitions is None else [str(each) for each in partitions],
        "shard": shard,
        "offset": offset,
        "until": until,
        "records": records,
        "sqlstate": sqlstate,
        "milliseconds": None if milliseconds is None else round(milliseconds, 1),
        "reason": reason,
        "lane": lane,
        "key": key,
        "tenant": tenant,
        "wish": wish,
    }
    return {ATTRIBUTE: {key: value for key, value in facts.items() if value is not None}}
