"""Key channels: sharding inside a partition.

Kafka hands a consumer a partition, and a partition in order is far too little concurrency for a
database. What must be in order is less: the records of one key. So a partition is divided again:

- Each active key has a channel, the FIFO of its waiting records. It is opened by the key's first
  record and closed when it is empty and idle, so memory follows the records that wait, not the keys
  that exist.
- ``put`` files records under their keys. ``take`` gives a batch whose keys are in flight nowhere
  else. ``done`` frees its keys.
- While a key is in flight its channel fills; the next batch that holds the key takes all of it. A
  thousand updates of one row become one lock and one write.
- Keys wait their turn in one queue and go to its end after each batch, so a hot key never keeps a
  cold one waiting for more than one batch.

There is no task and no lock here: these are plain data structures, called from one Trio task at a
time, and none of their methods is a checkpoint. A task a key was measured first (8.5 µs a record,
and a memory channel with a task switch 7.4 µs); a list in a dictionary and a queue of ready keys
cost a tenth of that. What is taken is a batch of lists of records, and the record is never looked at
again until it becomes a row.

`KeyChannels` orders by one key. A record with several (subscription and user) runs when it is first
in each of its channels; that is `MultiKeyChannels`, in ``multikey.py``, which costs three times as much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol, TypeAlias

import attrs

from pipeline.records.record import Record, offset_of

Matches: TypeAlias = Callable[[Record], bool]
"""Whether a record is one of those that are meant."""


@attrs.define(eq=False)
class Batch:
    """Records that go to Postgres together, and what they hold until `Channels.done`.

    Records of one key stand in offset order, and beside each other where a record has one key.
    What is held is the business of the channels that gave the batch: keys, or places in them.
    """

    records: list[Record]
    held: Sequence[Any]

    def __len__(self) -> int:
        return len(self.records)


class Channels(Protocol):
    """The scheduler of one partition."""

    @property
    def waiting(self) -> int:
        """How many records wait in channels."""

    @property
    def in_flight(self) -> int:
        """How many records were taken and are not done."""

    @property
    def active_keys(self) -> int:
        """How many channels are open."""

    @property
    def ready(self) -> int:
        """How many records `take` would start from; each is of another key. 0: it gives nothing."""

    def put(self, records: Sequence[Record]) -> None:
        """File records, which are in offset order and above all that were put before."""

    def take(self, limit: int) -> Batch:
        """A batch of at most ``limit`` records; empty where no key is ready."""

    def done(self, batch: Batch) -> None:
        """Free the keys of a batch whose records are all applied (or will never be)."""

    def put_back(self, records: Sequence[Record]) -> None:
        """File records again that were taken and are not applied, before all that waits of their keys.

        They are in offset order where they share a key, and their batch is done.
        """

    def waiting_records(self) -> Iterator[Record]:
        """Every record that waits, those of one key in offset order."""

    def withdraw(self, matches: Matches) -> list[Record]:
        """Take out what waits and matches, in offset order; what is in flight stays.

        With several keys a record, whatever shares a key with one that matches must match too.
        """

    def clear(self) -> int:
        """Drop what waits, and say how many records that was; what is in flight stays."""


class KeyChannels:
    """Channels of records with one ordering key each: under 1 µs a record for all three calls."""

    def __init__(self) -> None:
        # A key is here while it is active. Its list is what waits; None: in flight, nothing waits.
        self._channels: dict[Hashable, list[Record] | None] = {}
        self._ready: deque[Hashable] = deque()  # keys that wait and are not in flight
        self.waiting = 0
        self.in_flight = 0

    @property
    def active_keys(self) -> int:
        return len(self._channels)

    @property
    def ready(self) -> int:
        return len(self._ready)

    def put(self, records: Sequence[Record]) -> None:
        channels, ready = self._channels, self._ready
        for record in records:
            key = record.ordering
            if key in channels:
                channel = channels[key]
                if channel is None:
                    channels[key] = [record]
                else:
                    channel.append(record)
            else:
                channels[key] = [record]
                ready.append(key)
        self.waiting += len(records)

    def take(self, limit: int) -> Batch:
        channels, ready = self._channels, self._ready
        records: list[Record] = []
        keys: list[Hashable] = []
        while ready and len(records) < limit:
            key = ready.popleft()
            channel = channels[key]
            assert channel, "a ready key has records waiting"
            keys.append(key)
            room = limit - len(records)
            if len(channel) <= room:
                channels[key] = None
                records += channel
            else:
                channels[key] = channel[room:]
                records += channel[:room]
        self.waiting -= len(records)
        self.in_flight += len(records)
        return Batch(records, keys)

    def done(self, batch: Batch) -> None:
        channels, ready = self._channels, self._ready
        for key in batch.held:
            if channels[key] is None:
                del channels[key]
            else:
                ready.append(key)
        self.in_flight -= len(batch.records)
        assert self.in_flight >= 0, "a batch is done once"
        assert len(ready) <= len(channels), "a key is ready or in flight, never both"

    def put_back(self, records: Sequence[Record]) -> None:
        channels = self._channels
        for record in reversed(records):
            key = record.ordering
            if key not in channels:
                channels[key] = []
                self._ready.append(key)
            channel = channels[key]
            assert channel is not None, "a key whose batch is done is not in flight"
            channel.insert(0, record)
        self.waiting += len(records)

    def waiting_records(self) -> Iterator[Record]:
        return chain.from_iterable(filter(None, self._channels.values()))

    def withdraw(self, matches: Matches) -> list[Record]:
        channels, idle = self._channels, set(self._ready)
        withdrawn: list[Record] = []
        for key, channel in list(channels.items()):
            found = [record for record in channel or () if matches(record)]
            if channel is None or not found:
                continue
            withdrawn += found
            if len(found) < len(channel):
                channels[key] = [record for record in channel if not matches(record)]
            elif key in idle:
                del channels[key]
            else:
                channels[key] = None
        self._ready = deque(key for key in self._ready if key in channels)
        self.waiting -= len(withdrawn)
        return sorted(withdrawn, key=offset_of)

    def clear(self) -> int:
        dropped, self.waiting = self.waiting, 0
        for key in self._ready:
            del self._channels[key]
        self._ready.clear()
        self._channels = dict.fromkeys(self._channels)  # the rest is in flight
        return dropped
