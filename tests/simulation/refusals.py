"""Records that the database refuses for a while, or for ever, and what may become of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import attrs
import trio

from pipeline.contracts.wish import Ruling
from pipeline.postgres.store.retry_policy import RetryPolicy
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition

SQLSTATE = "23503"

Place = tuple[TopicPartition, int]


@attrs.define
class Refusals:
    """Which records are refused until when, and what ``[errors]`` says of that.

    Attributes:
        seconds: for how long a refused record is tried again; None: it is a dead letter at once.
        hold_key: whether a record that can't be applied holds up its key for good.
        until: when each refused record may be applied, in virtual time; no other record is here.
        ruled: the records that an operator has given up.
    """

    rng: random.Random
    seconds: float | None = None
    hold_key: bool = False
    share: float = 0.0
    until: dict[Place, float] = attrs.field(factory=dict)
    ruled: set[Place] = attrs.field(factory=set)
    _first: dict[Place, float] = attrs.field(factory=dict)

    @classmethod
    def of(cls, seed: int) -> Refusals:
        """Draw what a history has of it. Of its own chance: all else of a history stays as it is."""
        rng = random.Random(f"refusals {seed}")
        if rng.random() < 0.6:
            return cls(rng)
        hold = rng.random() < 0.4
        seconds = rng.choice([None, 5.0, 20.0]) if hold else rng.choice([0.5, 5.0, 20.0])
        return cls(rng, seconds, hold, rng.choice([0.02, 0.1]))

    def draw(self, place: Place) -> bool:
        """Whether a record that is produced now is refused for a while."""
        if self.rng.random() >= self.share:
            return False
        seconds = math.inf if self.rng.random() < 0.2 else self.rng.uniform(0.0, 30.0)
        self.until[place] = trio.current_time() + seconds
        return True

    def refuses(self, record: Record) -> bool:
        """Whether the database refuses a record now."""
        place = (record.source, record.offset)
        if trio.current_time() >= self.until.get(place, 0.0):
            return False
        self._first.setdefault(place, trio.current_time())
        return True

    def policy(self, may_wait: Callable[[Record], bool]) -> RetryPolicy:
        """What the store is given."""
        seconds = {} if self.seconds is None else {SQLSTATE[:2]: self.seconds}
        return RetryPolicy(seconds, hold_key=self.hold_key, may_wait=may_wait)

    def broken_law(self, record: Record, why: DeadLetterReason, may_wait: bool) -> str | None:
        """What is wrong with keeping a record as a dead letter now."""
        place = (record.source, record.offset)
        if why.error == "Dropped" or place in self.ruled or not may_wait:
            return None
        if self.hold_key:
            return f"{record} is a dead letter, but its key is to wait"
        if why.sqlstate != SQLSTATE or place not in self.until or self.seconds is None:
            return None
        tried = trio.current_time() - self._first[place]
        if tried < self.seconds:
            return f"{record} was tried for {tried:g} s only"
        return None

    def ruling(self, place: Place, topic_id: str, number: int, *, drop: bool) -> Ruling:
        """An operator's ruling on a record."""
        source, offset = place
        if drop:
            self.ruled.add(place)
        return Ruling(
            id=f"r{number}", by="operator", since=int(trio.current_time() * 1000),
            topic=source.topic, topic_id=topic_id, partition=source.partition, offset=offset,
            drop=drop,
        )  # fmt: skip
