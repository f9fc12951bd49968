"""Where a partition that was taken over starts: what Kafka and the ledger know, reconciled."""

from __future__ import annotations

import logging

from pipeline.contracts.kafka import Position
from pipeline.contracts.store import AppliedOffsets
from pipeline.errors import PipelineError
from pipeline.records.record import TopicPartition

log = logging.getLogger(__name__)


def starting_offset(
    source: TopicPartition, applied: AppliedOffsets, position: Position
) -> tuple[int | None, int]:
    """The higher of what both know, and how many records the ledger skips; differences are told.

    The offset is None where neither knows any and the group has no reset policy.

    Raises:
        PipelineError: the log ends below it.
    """
    start, watermark, skipped = position.committed, applied.watermark, 0
    if start is None and watermark is None:
        # An offset of our own, not the consumer's: a partition that is taken over once more
        # before anything was committed starts where it started first, not where it got to.
        start = position.reset
    if watermark is not None and (start is None or start < watermark):
        _tell_set_back(source, start, watermark, applied.folded)
        skipped = max(0, watermark - (position.start if start is None else start))
        start = watermark
    elif watermark is not None and start is not None and start > watermark:
        log.info(
            "%s: starting at the group's offset %d, the ledger knows all below %d: what lies "
            "between are no records, or the offset was moved on from outside",
            source, start, watermark,
        )  # fmt: skip
    return _within_the_log(source, start, position), skipped


def _tell_set_back(
    source: TopicPartition, start: int | None, watermark: int, folded: int | None
) -> None:
    if start is not None and folded is not None and start < folded:
        log.warning(
            "%s: the group's offset was set back to %d from outside, but the ledger in the "
            "database has everything below %d applied, so nothing is applied again; for a "
            "deliberate replay, stop all instances and use: pipeline rewind",
            source, start, watermark,
        )  # fmt: skip


def _within_the_log(source: TopicPartition, start: int | None, position: Position) -> int | None:
    if start is None:
        return None
    if start < position.start:
        log.error(
            "%s: the records from offset %d up to %d were deleted by Kafka's retention before "
            "they were applied", source, start, position.start,
        )  # fmt: skip
        return position.start
    if start > position.end:
        raise PipelineError(
            f"{source}: offset {start} comes next, but the log ends at {position.end}: Kafka "
            "has lost records, or the topic's data was replaced. To apply the log again from an "
            "offset of your choice, stop all instances and use: pipeline rewind"
        )
    return start
