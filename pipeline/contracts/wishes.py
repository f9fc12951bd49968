"""What operators wish just now: holds, pauses, limits on rates; and who is told when that changes.

The wishes are on the control topic (`pipeline.kafka.control_topic`), which commands write and every
instance follows. `Wishes` is what an instance knows of them. It is read without a checkpoint, from as
many places as care; `Wishes.changed` wakes whoever waits for the next change, be it a message or a
wish whose time has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeAlias, TypeVar

import attrs
import trio

from pipeline.contracts.rule import Plain, Rule
from pipeline.records.record import TopicPartition

LOOK_SECONDS = 60.0
"""How long a wait for a wish's end lasts at most before the clock is read again: it may be set."""


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


AnyWish: TypeAlias = Hold | Pause | RateLimit
W = TypeVar("W", Hold, Pause, RateLimit)


class Wishes:
    """What is wished now.

    No method is a checkpoint but `changed`. In Trio's thread only.

    Args:
        clock: the wall clock, in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.version = 0
        """Grows with each change; see `changed`."""
        self._clock = clock
        self._known: dict[str, AnyWish] = {}
        self._in_force: dict[str, AnyWish] = {}
        self._waiting = trio.lowlevel.ParkingLot()

    # Reading

    def holds(self) -> Sequence[Hold]:
        """Return every hold that is not over, in whatever state, the oldest first."""
        return self._of(Hold)

    def pauses(self) -> Sequence[Pause]:
        """Return every pause in force, the oldest first."""
        return self._of(Pause)

    def limits(self) -> Sequence[RateLimit]:
        """Return every limit in force, the oldest first."""
        return self._of(RateLimit)

    def pause_of(self, source: TopicPartition, shard: str) -> Pause | None:
        """Return the oldest pause that covers a partition; None if it may work."""
        return next((each for each in self.pauses() if each.what.covers(source, shard)), None)

    def _of(self, kind: type[W]) -> list[W]:
        self._expire()
        found = [wish for wish in self._in_force.values() if isinstance(wish, kind)]
        return sorted(found, key=lambda wish: (wish.since, wish.id))

    async def changed(self, seen: int) -> int:
        """Wait until `version` is another than ``seen``; return it.

        Usage: read ``version``, then the wishes, then wait: no change is missed in between. A checkpoint;
        cancelled, nothing is lost.
        """
        await trio.lowlevel.checkpoint()
        while True:
            self._expire()
            if self.version != seen:
                return self.version
            with trio.move_on_after(self._until_the_next_end()):
                await self._waiting.park()

    def _until_the_next_end(self) -> float:
        """Seconds until a wish may be over by itself; never none, so that no wait spins."""
        now = self._clock()
        ends = [wish.until / 1000 - now for wish in self._in_force.values() if wish.until]
        return min(max(0.001, min(ends, default=LOOK_SECONDS)), LOOK_SECONDS)

    # Changing

    def replace(self, wishes: Iterable[AnyWish]) -> None:
        """These are all wishes that there are."""
        self._known = {wish.id: wish for wish in wishes}
        self._expire()

    def put(self, wish: AnyWish) -> None:
        """Add a wish, or change the one with the same id."""
        self._known[wish.id] = wish
        self._expire()

    def remove(self, wish_id: str) -> None:
        """Forget a wish; nothing happens if it is not known."""
        self._known.pop(wish_id, None)
        self._expire()

    def _expire(self) -> None:
        """Leave out what is over, and wake those who wait if that, or anything else, is a change."""
        now = self._clock()
        in_force = {key: wish for key, wish in self._known.items() if not wish.over(now)}
        if in_force != self._in_force:
            self._in_force = in_force
            self.version += 1
            self._waiting.unpark_all()
