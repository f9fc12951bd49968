"""Key channels for records that have several keys each.

A record runs when it is first in each of its channels, and none of them is in flight in another
batch. Within one batch it is enough that a record stands behind those that it follows.

A channel is not kept as a list here. Each record has a `_Place`, which knows who follows it: in each
of its channels at most one. A place that waits counts those in front of it that are not done, at most
one a channel too. So the channels together are a graph, a channel is known by the last place in it,
and a record costs a step for each of its keys, however many wait.

How a batch grows: it starts from a place that is ready. Whoever follows a place of the batch, and
waits for nobody outside of it, may join, for the batch itself holds those channels now; so a batch
follows the chains of its keys as far as its limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence

import attrs

from pipeline.consumer.channels import Batch, Matches
from pipeline.records.record import Record, offset_of


@attrs.define(eq=False)
class _Place:
    """A record's place in its channels.

    Attributes:
        followers: the next place in each of the channels, where there is one.
        waits_for: how many places directly in front are not done; 0 from the moment it is taken.
        batch: the number of the last batch that took one of those, and
        held: how many of them it took. They are all, where no other batch holds any.
    """

    record: Record
    followers: tuple[_Place, ...] = attrs.field(default=(), init=False)
    waits_for: int = attrs.field(default=0, init=False)
    batch: int = attrs.field(default=0, init=False)
    held: int = attrs.field(default=0, init=False)


class MultiKeyChannels:
    """Channels of records whose ``ordering`` is a tuple of keys: under 3 µs a record with two.

    The law of one key holds for each: records that share any key apply in offset order.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, _Place] = {}  # the last place of each channel, until it is done
        self._ready: deque[_Place] = deque()  # those that wait for nobody, and are not taken
        self._batches: set[Batch] = set()  # those in flight
        self._taken = 0  # how many batches were ever taken: the number of the last one
        self.waiting = 0
        self.in_flight = 0

    @property
    def active_keys(self) -> int:
        return len(self._last)

    @property
    def ready(self) -> int:
        return len(self._ready)

    def put(self, records: Sequence[Record]) -> None:
        channels, ready = self._last, self._ready
        for record in records:
            place = _Place(record)
            for key in record.ordering:  # type: ignore[attr-defined]  # a tuple: see the class
                before = channels.get(key)
                if before is not None:
                    before.followers += (place,)
                    place.waits_for += 1
                channels[key] = place
            if not place.waits_for:
                ready.append(place)
        self.waiting += len(records)

    def take(self, limit: int) -> Batch:
        ready = self._ready
        taken: list[_Place] = []
        self._taken = number = self._taken + 1
        chain: list[_Place] = []  # followers that may join this batch
        while (chain or ready) and len(taken) < limit:
            place = chain.pop() if chain else ready.popleft()
            place.waits_for = 0
            taken.append(place)
            for follower in place.followers:
                if follower.batch == number:
                    follower.held += 1
                else:
                    follower.batch, follower.held = number, 1
                if follower.held == follower.waits_for:
                    chain.append(follower)
        batch = Batch([place.record for place in taken], taken)
        if taken:
            self._batches.add(batch)
        self.waiting -= len(taken)
        self.in_flight += len(taken)
        return batch

    def done(self, batch: Batch) -> None:
        channels, ready = self._last, self._ready
        for place in batch.held:
            for key in place.record.ordering:
                if channels[key] is place:
                    del channels[key]
            for follower in place.followers:
                if not follower.waits_for:
                    continue  # it was taken in this same batch
                follower.waits_for -= 1
                if not follower.waits_for:
                    ready.append(follower)
        assert batch in self._batches, "a batch is taken before it is done, and done once"
        self._batches.remove(batch)
        self.in_flight -= len(batch.held)

    def put_back(self, records: Sequence[Record]) -> None:
        waiting = sorted([*records, *self.waiting_records()], key=offset_of)
        self.clear()
        self.put(waiting)

    def waiting_records(self) -> Iterator[Record]:
        return (place.record for place in self._waiting_places())

    def _waiting_places(self) -> Iterator[_Place]:
        """Each place that is not taken: those that are ready, and whoever follows."""
        todo = list(self._ready)
        for batch in self._batches:
            todo += [after for place in batch.held for after in place.followers if after.waits_for]
        seen: set[_Place] = set()
        while todo:
            place = todo.pop()
            if place not in seen:
                seen.add(place)
                todo += place.followers
                yield place

    def withdraw(self, matches: Matches) -> list[Record]:
        waiting = sorted(self.waiting_records(), key=offset_of)
        withdrawn = [record for record in waiting if matches(record)]
        if withdrawn:
            self.clear()
            self.put([record for record in waiting if not matches(record)])
        return withdrawn

    def clear(self) -> int:
        dropped, self.waiting = self.waiting, 0
        self._ready.clear()
        self._last.clear()
        for batch in self._batches:
            for place in sorted(batch.held, key=lambda place: place.record.offset):
                place.followers = ()
                self._last |= dict.fromkeys(place.record.ordering, place)
        return dropped
