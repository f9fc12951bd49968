"""What lanes read of a simulated Kafka, beside the consumer: `LaneRecords` in virtual time."""

from __future__ import annotations

from uuid import UUID

import trio

from pipeline.contracts.kafka import Fetched, LaneRecords
from pipeline.kafka.record_batches import PlainBatch
from pipeline.records.record import TopicPartition
from tests.simulation.kafka import Broker, Message
from tests.simulation.world import Gate

WAIT_SECONDS = 1.0


class SimulatedLaneRecords:
    """One instance's reader.

    Args:
        broker: Kafka.
        awake: closed while the instance is frozen.
        connected: closed while Kafka can't be reached from it: `SimulatedConsumer.connected`.
    """

    def __init__(self, broker: Broker, awake: Gate, connected: Gate) -> None:
        self._broker = broker
        self._world = broker.world
        self._awake = awake
        self._connected = connected
        self._reading: set[TopicPartition] = set()

    async def read(
        self, source: TopicPartition, topic_id: UUID, offset: int, max_bytes: int
    ) -> Fetched:
        """See `LaneRecords.read`."""
        assert source not in self._reading, f"{source} is read twice at once"
        self._reading.add(source)
        try:
            await self._reach()
            fetched = self._fetch(source, topic_id, offset, max_bytes)
            if fetched.next_offset == offset:
                with trio.move_on_after(WAIT_SECONDS):
                    await self._broker.changed.park()
                await self._reach()
                fetched = self._fetch(source, topic_id, offset, max_bytes)
            await trio.sleep(self._world.rng.uniform(0.0005, 0.005))
            await self._reach()
            return fetched
        finally:
            self._reading.discard(source)

    async def _reach(self) -> None:
        await self._awake.passed()
        await self._connected.passed()

    def _fetch(
        self, source: TopicPartition, topic_id: UUID, offset: int, max_bytes: int
    ) -> Fetched:
        if topic_id != self._broker.topic_id:
            return Fetched((), offset, 0)
        start = self._broker.starts[source]
        if offset < start:
            return Fetched((), start, start)
        found = [message for message in self._broker.logs[source] if message.offset >= offset]
        some = _first_bytes(found, max_bytes)
        if not some:
            return Fetched((), max(offset, self._broker.end(source)), start)
        end = found[len(some)].offset if len(some) < len(found) else self._broker.end(source)
        cut = self._world.rng.randrange(len(some) + 1)
        batches = [PlainBatch(part) for part in (some[:cut], some[cut:]) if part]
        return Fetched(batches, end, start)


def _first_bytes(messages: list[Message], max_bytes: int) -> list[Message]:
    """The first messages, about ``max_bytes`` of them but one at least."""
    size = 0
    for place, message in enumerate(messages):
        size += len(message.value or b"")
        if size >= max_bytes:
            return messages[: place + 1]
    return messages


def _conforms(records: SimulatedLaneRecords) -> LaneRecords:
    return records
