"""What operators wish just now, and who is told when that changes.

The wishes are on the control topic (`pipeline.kafka.control_topic`), which commands write and every
instance follows. `Wishes` is what an instance knows of them. It is read without a checkpoint, from as
many places as care; `Wishes.changed` wakes whoever waits for the next change, be it a message or a
wish whose time has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import trio

from pipeline.contracts.wish import AnyWish, Hold, Pause, RateLimit, Ruling
from pipeline.records.record import TopicPartition

LOOK_SECONDS = 60.0
"""How long a wait for a wish's end lasts at most before the clock is read again: it may be set."""

W = TypeVar("W", Hold, Pause, RateLimit, Ruling)


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

    def rulings(self) -> Sequence[Ruling]:
        """Return what is said of records that could not be applied, the oldest first."""
        return self._of(Ruling)

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
