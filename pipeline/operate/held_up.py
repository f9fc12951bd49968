"""Records that can't be applied, and hold up what comes after them: read from the ledgers, ruled on.

The ledgers know them, so they are found while no instance runs too. A ruling goes through the control topic,
as all wishes do, and names the record: it is carried out once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from pipeline.config.model import Config
from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.rule import Rule
from pipeline.contracts.wish import Ruling, minute_of
from pipeline.errors import UsageError
from pipeline.operate import ledgers
from pipeline.operate.console import cut, table, width
from pipeline.operate.control import Known, new_id, operator
from pipeline.records.record import TopicPartition
from pipeline.runtime import interrupt

RULING_SECONDS = 7 * 24 * 3600
"""How long a ruling is remembered: an instance may be away meanwhile."""


@attrs.frozen
class HeldUp:
    """A record that holds up the lane of its key, or of its tenant.

    Attributes:
        source: its partition.
        topic_id: the topic's UUID.
        lane: the lane.
        failure: what the lane's row says of the record.
    """

    source: TopicPartition
    topic_id: str
    lane: Lane
    failure: LaneFailure

    def __str__(self) -> str:
        """As it is named in commands: ``sessions-3@57``."""
        return f"{self.source}@{self.failure.offset}"

    def ruling(self, known: Known, *, drop: bool) -> Ruling:
        """Return what is to be written so that it is tried again at once, or given up."""
        now = int(known.now * 1000)
        return Ruling(
            id=new_id(known, Ruling), by=operator(), since=now, until=now + RULING_SECONDS * 1000,
            topic=self.source.topic, topic_id=self.topic_id, partition=self.source.partition,
            offset=self.failure.offset, drop=drop,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return it as an object for JSON."""
        return {
            "record": str(self),
            "topic": self.source.topic,
            "partition": self.source.partition,
            "offset": self.failure.offset,
            "rule": self.lane.rule.to_json(),
            "reason": self.lane.reason.value,
            "since": int(self.failure.since * 1000),
            "why": self.failure.why,
        }


def may_be(config: Config) -> bool:
    """Whether records may hold up others, as configured; otherwise no database is asked."""
    return config.errors.waits


def read(config: Config) -> list[HeldUp]:
    """Return the records that hold up others, the one that does so longest first.

    Blocks; reads the ledgers in Trio, so it must not be called from Trio.

    Raises:
        PipelineError: a shard does not answer.
    """
    streams = [f"{config.kafka.group_id}/{topic}" for topic in config.kafka.topics]
    held = interrupt.run(partial(ledgers.read_lanes, config, streams))
    found = [
        HeldUp(TopicPartition(stream.partition("/")[2], partition), str(topic_id), lane, failure)
        for (stream, topic_id, partition), entries in held.items()
        for lane in (entry.lane for entry in entries)
        if (failure := lane.failure) is not None and lane.until_offset is None
    ]
    return sorted(found, key=lambda each: each.failure.since)


def named(config: Config, name: str) -> HeldUp:
    """Return the record of a name.

    Raises:
        UsageError: it holds up nothing.
        PipelineError: a shard does not answer.
    """
    for each in read(config) if may_be(config) else ():
        if str(each) == name:
            return each
    raise UsageError(f"{name} holds up nothing: to see what does, pipeline hold list")


def of_rule(config: Config, rule: Rule) -> list[HeldUp]:
    """Return the records that hold up the lanes of a rule."""
    return [each for each in read(config) if each.lane.rule == rule] if may_be(config) else []


def lines(found: Sequence[HeldUp]) -> Iterator[str]:
    """Yield a table of records that hold up others."""
    rows = [["record", "holds up", "by", "since", "why"]]
    for each in found:
        since = minute_of(int(each.failure.since * 1000)).removesuffix(" UTC")
        rule, reason = cut(str(each.lane.rule), 30), each.lane.reason.value
        rows.append([str(each), rule, reason, since, each.failure.why])
    yield from table(rows, columns=width())
