"""What is committed to Kafka of a partition."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pipeline.consumer.partition import PartitionTask
from pipeline.contracts import commit_metadata
from pipeline.contracts.store import Claim


@attrs.frozen
class Committable:
    """A partition's watermark that Kafka has not been given yet.

    Attributes:
        claim: the partition.
        assignment_id: of the task that the watermark belongs to.
        watermark: the offset to commit.
        metadata: the text to commit with it.
    """

    claim: Claim
    assignment_id: int
    watermark: int
    metadata: str


def committable(
    task: PartitionTask, describe: Callable[[PartitionTask], str]
) -> Committable | None:
    """What there is to commit of a task; None if nothing may be, or nothing is known yet.

    Args:
        describe: the text to commit along with the watermark: `describe_by_ledger` or `describe_offsets`.
    """
    watermark = task.offsets.watermark
    if task.claim is None or watermark is None or task.fenced or task.log_changed:
        return None
    if watermark < task.acknowledged:
        return None  # Kafka has a higher one of ours; the database lost what lies between
    return Committable(task.claim, task.assignment_id, watermark, describe(task))


def describe_by_ledger(task: PartitionTask) -> str:
    """The text to commit along with a watermark when the ledger knows what is above it."""
    return "" if task.claim is None else commit_metadata.ledger(task.claim.topic_id)


def describe_offsets(task: PartitionTask) -> str:
    """The text to commit along with a watermark without a ledger: what is applied above it."""
    watermark = task.offsets.watermark
    return (
        ""
        if watermark is None
        else commit_metadata.encode(watermark, task.offsets.completed_ranges())
    )
