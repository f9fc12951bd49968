"""What the partition tasks and their supervisor ask of Kafka: a few Trio functions and three events.

`client.KafkaClient` is the real one; the simulation has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Protocol
from uuid import UUID

import attrs
import trio

from pipeline.records.record import FirstRecords, RawBatch, Spans, TopicPartition


class Change(Enum):
    """What happens to partitions in a rebalance."""

    ASSIGNED = "assigned"
    REVOKED = "revoked"
    LOST = "lost"


@attrs.frozen
class AssignmentEvent:
    """A change that the supervisor must carry out before the rebalance may go on."""

    change: Change
    partitions: tuple[TopicPartition, ...]
    done: Callable[[], None]
    """Say that it is carried out. Called once, in Trio; never blocks."""


def discard_events(events: trio.MemoryReceiveChannel[AssignmentEvent]) -> None:
    """Take no more events: those that wait, or come later, hold up no rebalance.

    The rebalance waits until its event is carried out, and `Consumer.close` waits for the rebalance:
    whoever stops receiving must call this. Not a checkpoint.
    """
    with suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
        while True:
            events.receive_nowait().done()
    events.close()


@attrs.frozen
class Position:
    """Where a partition's records begin and end, and where the group stands.

    Attributes:
        committed: the group's committed offset, the next one to apply; None where it has none.
        metadata: the text committed with it.
        start: the log's first offset.
        end: the offset after the log's last record.
        reset: where the reset policy starts a group without an offset; None where it starts none.
    """

    committed: int | None
    metadata: str
    start: int
    end: int
    reset: int | None = None


class Consumer(Protocol):
    """What the partition tasks and their supervisor ask of Kafka."""

    events: trio.MemoryReceiveChannel[AssignmentEvent]

    async def poll(self) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        """What has been fetched, in offset order in each partition; empty where nothing came.

        Partitions that stay are polled on while a rebalance waits for an event. Of a partition that
        was revoked or lost nothing comes after its event.
        """

    def seek_and_resume(self, source: TopicPartition, offset: int | None) -> None:
        """Fetch an assigned partition from ``offset`` on; None: from wherever Kafka has it."""

    def pause(self, source: TopicPartition) -> None: ...

    def resume(self, source: TopicPartition) -> None: ...

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> bool:
        """Commit offsets with metadata; False where the group would not take it just now."""

    async def positions(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """Where partitions stand; those that no broker leads just now are left out."""

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after each log's last record; those that can't be had now are left out."""

    async def try_positions(
        self, sources: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Position]:
        """As `positions`, without its patience: those that can't be had now are left out."""

    async def first_records(self, spans: Spans) -> FirstRecords:
        """The first record in each span; those that can't be read now are left out.

        Nothing that is fetched or paused is disturbed. A checkpoint; cancelled, it returns at once.
        """

    async def topic_id(self, topic: str) -> UUID: ...

    async def close(self) -> None:
        """Leave the group: what is assigned is revoked first, as an event. No poll works then."""
