"""What an operator may wish: a hold, a pause, a limit on a rate. Frozen facts, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeAlias

import attrs

from pipeline.contracts.rule import Plain, Rule
from pipeline.records.record import TopicPartition


@attrs.frozen(kw_only=True)
class Wish:
    """What all wishes have.

    Attributes:
        id: short, and unlike that of any other wish, such as ``h1f3a``.
        by: who wished it: ``user@host``.
        since: when it was wished, in ms since the epoch.
        until: when it ends by itself, in ms since the epoch; None: not before it is removed.
        why: the reason, in the operator's words; may be empty.
        extra: fields that a newer version wrote. They are kept when the wish is written again.
    """

    id: str
    by: str
    since: int
    until: int | None = None
    why: str = ""
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False, hash=False)

    def story(self) -> str:
        """Return who wished it, since when, until when, and why, for people; times are UTC."""
        until = "" if self.until is None else f", until {minute_of(self.until)}"
        why = f": {' '.join(self.why.split())}" if self.why.strip() else ""
        return f"by {self.by} since {minute_of(self.since)}{until}{why}"

    def over(self, now: float) -> bool:
        """Whether the wish has ended by itself, at ``now`` in seconds since the epoch."""
        return self.until is not None and self.until <= now * 1000


def minute_of(millis: int) -> str:
    """Return a moment in ms since the epoch as ``2026-05-01 12:00 UTC``."""
    try:
        return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError):
        return f"{millis} ms after 1970"


class HoldState(Enum):
    """What is to become of the records that a hold means.

    Only `HOLDING` opens lanes. The others end, or change, what the hold has opened already; a hold that
    is no longer there at all, or is over, counts as released.
    """

    HOLDING = "holding"
    """They wait."""
    RELEASED = "released"
    """They are applied, in order, before newer ones."""
    DROPPING = "dropping"
    """Those that wait are skipped for good."""
    DROP_FIRST = "drop-first"
    """The first that waits becomes a dead letter; the others go on waiting."""


@attrs.frozen(kw_only=True)
class Hold(Wish):
    """The records of a key or a tenant wait, until they are released or dropped.

    Attributes:
        rule: whose records.
        state: what is to become of them.
        changed: when the state was set, in ms since the epoch. No two changes of a hold have the same:
            so it tells a wish to drop the first record from one that was carried out before.
    """

    rule: Rule
    state: HoldState = HoldState.HOLDING
    changed: int = 0


@attrs.frozen
class Scope:
    """What a pause stops: a shard's partitions, a topic's, or a single one. Exactly one of them.

    Attributes:
        shard: the shard's name.
        topic: the topic's name.
        partition: the number of a partition of the topic; None: all of them.
    """

    shard: str | None = None
    topic: str | None = None
    partition: int | None = None

    def __attrs_post_init__(self) -> None:
        if (self.shard is None) == (self.topic is None):
            raise ValueError("a pause stops a shard, or a topic")
        if self.shard is not None and self.partition is not None:
            raise ValueError("a pause of a shard stops all its partitions")

    def __str__(self) -> str:
        """For people, and in the metric's label: ``shard db0``, ``topic events``, ``events-3``."""
        if self.shard is not None:
            return f"shard {self.shard}"
        if self.partition is None:
            return f"topic {self.topic}"
        return f"partition {self.topic}-{self.partition}"

    def covers(self, source: TopicPartition, shard: str) -> bool:
        """Whether a partition that writes to a shard is meant."""
        if self.shard is not None:
            return self.shard == shard
        return self.topic == source.topic and self.partition in (None, source.partition)


@attrs.frozen(kw_only=True)
class Pause(Wish):
    """A shard's, a topic's or one partition's records wait: no new batch is started.

    Attributes:
        what: whose.
    """

    what: Scope


@attrs.frozen(kw_only=True)
class RateLimit(Wish):
    """How many records of a tenant the endpoint takes.

    Attributes:
        tenant: as the path of the tenant gives it.
        rate: records per second; 0: none.
    """

    tenant: Plain
    rate: float


@attrs.frozen(kw_only=True)
class Ruling(Wish):
    """What is to become of one record that can't be applied, and holds up the records behind it.

    It names the record, so it is carried out once, whoever owns the partition by then.

    Attributes:
        topic, topic_id, partition, offset: the record.
        drop: whether it is given up, and becomes a dead letter; otherwise it is tried again at once.
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    drop: bool = False


AnyWish: TypeAlias = Hold | Pause | RateLimit | Ruling
