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

from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape


class Fenced(Exception):
    """Another instance owns the partition now: nothing was written, and nothing may be retried."""


class ServerChanged(Fenced):
    """The database is another one now, or was restarted: what it has applied must be asked anew.

    Nothing was written. The partition may still be this instance's: it is taken over again at once.
    """


@attrs.frozen
class Claim:
    """One consumer group's claim on one partition.

    Attributes:
        group: the consumer group.
        source: topic and partition.
        topic_id: the topic's UUID: a topic made anew starts at offset 0 again, and what was applied
            of the old one says nothing about it.
    """

    group: str
    source: TopicPartition
    topic_id: UUID

    @property
    def stream(self) -> str:
        """Group and topic, as the ledger names them."""
        return f"{self.group}/{self.source.topic}"


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

    async def apply(self, writer: int, records: Sequence[Record]) -> None:
        """Apply records, in the order given where they share a key; returns when all are decided.

        Decided is applied or kept as a dead letter. What fails for a while is retried without end.
        Cancelled, it may leave any part of the batch applied; the ledger knows which.

        Raises:
            Fenced: the partition has another owner.
            PipelineError: retrying can't help.
        """


class Store(Protocol):
    """What the consumer writes to."""

    async def open(self, claim: Claim) -> PartitionStore:
        """Become the owner of a partition: fence the former one, and learn what is applied.

        Waits for the former owner's running transactions, and for a shard that is away.
        """

    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """Everything below each watermark is applied and committed to Kafka: fold what says so."""

    async def voided(self, claims: Sequence[Claim]) -> list[Claim]:
        """Which of these partitions' databases are not the ones that they were taken over in.

        Those have to be taken over again: commits may have been lost. A checkpoint; a shard that does
        not answer is left out. Idle partitions would not notice otherwise.
        """
