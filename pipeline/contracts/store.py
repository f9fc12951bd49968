"""The contract between the two sides: what consumes Kafka, and what writes Postgres.

Neither side imports the other. The consumer is given a `Store`; what a store is made of (Postgres, or
a simulated one) is the business of whoever composes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

import attrs

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.setback import Setback
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape


class Fenced(Exception):
    """Another instance owns the partition now: nothing was written, and nothing may be retried."""


class ServerChanged(Fenced):
    """The database is another one now, or was restarted: what it has applied must be asked anew.

    Nothing was written. The partition may still be this instance's: it is taken over again at once.
    """


@attrs.frozen(cache_hash=True)
class Claim:
    """One consumer group's claim on one partition.

    Attributes:
        group: the consumer group.
        source: topic and partition.
        topic_id: the topic's UUID: a topic made anew starts at offset 0 again, and what was applied
            of the old one says nothing about it.
        lane: a lane's number, if the claim is on one lane of the partition; None: on all else.
    """

    group: str
    source: TopicPartition
    topic_id: UUID
    lane: int | None = None

    @property
    def stream(self) -> str:
        """Group and topic, as the ledger names them; of a lane its number too, as in ``g/t#7``."""
        name = f"{self.group}/{self.source.topic}"
        return name if self.lane is None else f"{name}#{self.lane}"

    @property
    def main(self) -> Claim:
        """The claim on the partition itself."""
        return self if self.lane is None else attrs.evolve(self, lane=None)


@attrs.frozen
class AppliedOffsets:
    """What a store knows to be applied when a partition is taken over.

    Attributes:
        watermark: everything below is applied; None where the store knows of no such offset.
        above: applied ranges above the watermark, half-open, sorted, disjoint.
        folded: the watermark at the last fold; Kafka's committed offset was never below it.
        owned_before: whether this database has seen an owner of the partition before.
    """

    watermark: int | None = None
    above: tuple[tuple[int, int], ...] = ()
    folded: int | None = None
    owned_before: bool = attrs.field(default=False, eq=False)  # says nothing of what is applied

    @classmethod
    def from_ranges(
        cls,
        ranges: Sequence[tuple[int, int]],
        folded: int | None = None,
        *,
        owned_before: bool = False,
    ) -> AppliedOffsets:
        """From sorted, disjoint ranges; the first gives the watermark if it starts at 0."""
        if ranges and ranges[0][0] == 0:
            return cls(ranges[0][1], tuple(ranges[1:]), folded, owned_before)
        return cls(None, tuple(ranges), folded, owned_before)

    def offsets_from(self, position: int) -> set[int]:
        """The applied offsets above the watermark, from ``position`` on."""
        return {offset for start, end in self.above for offset in range(max(start, position), end)}


class DeadLetters(Protocol):
    """Where records go that Postgres will never accept."""

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        """Keep a record; returns when it is safe there, and only then may it count as done.

        Raises:
            PipelineError: it can't be kept, or too many were kept lately.
        """


class PartitionStore(Protocol):
    """A store as the owner of one partition sees it. Gone with its assignment."""

    applied: AppliedOffsets
    writers: int
    """How many batches may be in flight at once."""
    lanes: Sequence[Lane]
    """The partition's lanes as of the take-over, open and closed, oldest first; none for a lane."""

    @property
    def last_lane(self) -> int:
        """The largest number that a lane of the partition ever had, 0 if none: the next is larger.

        A number never returns, not even that of a lane which is forgotten: a former owner's statement
        that still is on its way would pass for the new lane's.
        """

    @property
    def waits_for(self) -> str:
        """What the batches in flight wait for, for people."""

    @property
    def shape(self) -> Shape | None:
        """What is read of a record's value, whose document is then a `Row`; None: all of it."""

    @property
    def batch_limit(self) -> int:
        """How many records a batch should hold just now, by what they have cost lately."""

    @property
    def linger(self) -> float:
        """Seconds that a batch may wait to grow while another of the partition is in flight."""

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Wait for a slot at the shard, whose limit bounds what runs at once on all partitions."""

    async def apply(self, writer: int, records: Sequence[Record]) -> Setback | None:
        """Apply records, in the order given where they share a key; returns when all are decided.

        Decided is applied or kept as a dead letter. What fails for a while is retried without end. What is
        configured to wait in a lane is left undecided, and returned: the caller opens the lane, and tries
        again there; None: all are decided.
        Cancelled, it may leave any part of the batch applied; the ledger knows which.

        Raises:
            Fenced: the partition has another owner.
            PipelineError: retrying can't help.
        """

    async def reject(self, writer: int, record: Record, reason: DeadLetterReason) -> None:
        """Keep a record as a dead letter, and note that it is decided.

        Raises:
            As `apply`.
        """

    async def skip(self, writer: int, records: Sequence[Record]) -> None:
        """Note that records are decided, which are neither applied nor kept: given up by an operator.

        Raises:
            As `apply`.
        """

    # Of a partition itself, not of a lane. Each is a checkpoint, retried without end, and raises what
    # `apply` raises. Cancelled, it may be done or not: only who gives the partition up may cancel it,
    # since whoever goes on must know.

    async def open_lane(self, lane: Lane) -> None:
        """Write a lane's row; returns when it is committed. Its number is above `last_lane`."""

    async def note_failure(self, number: int, failure: LaneFailure | None) -> None:
        """Write what holds up a lane; returns when it is committed."""

    async def close_lane(self, number: int, until: int) -> None:
        """Let a lane end before the offset ``until``; returns when that is committed."""

    async def forget_lanes(self) -> Sequence[int]:
        """Delete the closed lanes that no owner will need any more, with all that is noted of them.

        Those are the ones that the partition has folded past. Returns their numbers; after that, call
        `Store.forget` for each.
        """


class Store(Protocol):
    """What the consumer writes to."""

    async def open(self, claim: Claim) -> PartitionStore:
        """Become the owner of a partition: fence the former one, and learn what is applied.

        Waits for the former owner's running transactions, and for a shard that is away. A lane is
        opened after its partition, under the partition's fence; it has one writer.

        Raises:
            Fenced: of a lane only: the partition has another owner.
            PipelineError: retrying can't help.
        """

    def forget(self, claim: Claim) -> None:
        """Keep nothing of a claim in memory any more: it is given up. Not a checkpoint."""

    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """Everything below each watermark is applied and committed to Kafka: fold what says so.

        A lane's watermark is folded as a partition's, and is in no way committed to Kafka.
        """

    async def voided(self, claims: Sequence[Claim]) -> list[Claim]:
        """Which of these partitions' databases are not the ones that they were taken over in.

        Those have to be taken over again: commits may have been lost. A checkpoint; a shard that does
        not answer is left out. Idle partitions would not notice otherwise.
        """
