"""What the partition tasks and their supervisor ask of Kafka: a few Trio functions and four events.

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
    """A change that the supervisor must carry out before the rebalance may go on.

    Assigned without partitions: the group has been joined, and none was free. Nobody waits for that.
    """

    change: Change
    partitions: tuple[TopicPartition, ...]
    done: Callable[[], None]
    """Say that it is carried out. Called once, in Trio; never blocks."""


@attrs.frozen
class LogMoved:
    """A partition's log has nothing, or something else, at the offset that is to be fetched next.

    The partition is paused until its task seeks. Nobody waits for this event.

    Attributes:
        source: the partition.
        offset: what was to be fetched; None if that is not known.
        cut: from this offset on the log is another one than what was read (an unclean leader
            election); None if that is not known, or not so.
    """

    source: TopicPartition
    offset: int | None = None
    cut: int | None = None

    def done(self) -> None:
        """As `AssignmentEvent.done`; nobody waits."""


Event = AssignmentEvent | LogMoved


def discard_events(events: trio.MemoryReceiveChannel[Event]) -> None:
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


@attrs.frozen
class Fetched:
    """What a read of a partition found.

    Attributes:
        batches: in offset order; empty if nothing is there, or nothing that is for a consumer.
        next_offset: where to read on. What lies between the last record and it is none: transactions'
            markers, aborted records, what compaction took; or what retention took, below
            ``log_start``.
        log_start: the log's first offset, as far as is known; it never falls.
    """

    batches: Sequence[RawBatch]
    next_offset: int
    log_start: int


class LaneRecords(Protocol):
    """Reads partitions a second time, beside the group's consumer, which does not notice."""

    async def read(
        self, source: TopicPartition, topic_id: UUID, offset: int, max_bytes: int
    ) -> Fetched:
        """What a partition has from ``offset`` on, about ``max_bytes`` of it but one batch at least.

        Waits up to a second if nothing is there, and without end for a broker that is away. Below
        the log's start it returns no records, and goes on there. Of another topic with the same name
        it reads nothing.

        A checkpoint; cancelled, it returns at once or within a second. May be called for several
        partitions at once; for one partition, one call after the other.

        Raises:
            PipelineError: this user may not read the topic.
        """


class Consumer(Protocol):
    """What the partition tasks and their supervisor ask of Kafka."""

    events: trio.MemoryReceiveChannel[Event]

    async def poll(self) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        """What has been fetched, in offset order per partition; empty if nothing came. A checkpoint.

        Partitions that stay are polled on while a rebalance waits for an event. Of a partition that
        was revoked or lost nothing comes after its event.
        """

    def seek_and_resume(
        self, source: TopicPartition, offset: int, topic_id: UUID | None = None
    ) -> None:
        """Fetch an assigned partition from ``offset`` on.

        Not a checkpoint; carried out before the next poll.

        Args:
            topic_id: the topic that is meant: what is fetched is of no other of the same name. None:
                of whichever there is.
        """

    def pause(self, source: TopicPartition) -> None:
        """Fetch no more of a partition; what was fetched is kept for `resume`. Not a checkpoint.

        Carried out before the next poll. Has no effect on a partition that has gone meanwhile.
        """

    def resume(self, source: TopicPartition) -> None:
        """Fetch a paused partition again. Not a checkpoint; carried out as `pause` is."""

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> bool:
        """Commit offsets, each with a text; False if the group does not take them now.

        A checkpoint, bounded by `pipeline.config.model.COMMIT_SECONDS`. After False, and after a
        cancelled commit, Kafka may have any of the offsets or none.

        Raises:
            PipelineError: the group does not take them any more: the membership has ended for good.
        """

    async def positions(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """Log bounds and committed offset of each partition. A checkpoint.

        Asks again until Kafka answers. Partitions without a leader are left out.
        """

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after each log's last record; unreadable partitions are left out.

        A checkpoint; a single, short attempt.
        """

    async def try_positions(
        self, sources: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Position]:
        """Like `positions`, but a single, short attempt: unreadable partitions are left out."""

    async def first_records(self, spans: Spans) -> FirstRecords:
        """The first record in each span; unreadable partitions are left out.

        Nothing that is fetched or paused is disturbed. A checkpoint; cancelled, it returns at once.
        """

    async def topic_id(self, topic: str) -> UUID:
        """The topic's UUID as it is now: one that is deleted and made again gets another.

        A checkpoint. Asks again until Kafka answers, and while there is no such topic.

        Raises:
            PipelineError: this user may not describe it.
        """

    async def topic_ids(self) -> Mapping[str, UUID | None]:
        """The UUID of each topic that is subscribed to, as it is now; None if there is no such topic.

        A checkpoint; a single, short attempt: empty if Kafka does not answer.

        Raises:
            PipelineError: this user may not describe a topic.
        """

    async def close(self) -> None:
        """Leave the group: what is assigned is revoked first, as an event. A checkpoint.

        No poll works afterwards.
        """
