"""Where a partition that was taken over starts: what Kafka and the ledger know, reconciled."""

from __future__ import annotations

import logging

import attrs

from pipeline.contracts.commit_metadata import LEDGER
from pipeline.contracts.kafka import Position
from pipeline.contracts.store import AppliedOffsets
from pipeline.errors import PipelineError
from pipeline.records.record import TopicPartition

log = logging.getLogger(__name__)


@attrs.frozen
class Start:
    """Where a partition starts.

    Attributes:
        offset: the first offset to read; None if neither side knows any and there is no reset policy.
        skipped: how many records the ledger skips at once.
        acknowledged: below this offset every record was applied once, by what this program committed
            to Kafka: what is found missing there was lost by the database, and is applied again.
    """

    offset: int | None
    skipped: int = 0
    acknowledged: int = 0


def starting_offset(
    source: TopicPartition,
    applied: AppliedOffsets,
    position: Position,
    log: logging.Logger = log,
) -> Start:
    """Reconcile what Kafka and the ledger know; the start, why, and differences are logged.

    Whoever only wants to know gives a logger of its own: nothing else happens.

    - The ledger is ahead: it is right, and what it has is skipped. So it is after each crash.
    - Kafka is ahead, by an offset that this program committed (`commit_metadata.LEDGER`): then the
      ledger once knew as much, and the database has lost commits, or the offsets between are no
      records. Reading begins where the ledger's knowledge ends, and only what it has not is applied.
    - Kafka is ahead, by an offset from elsewhere: someone moved the group on, and that holds.

    Raises:
        PipelineError: the log ends below the offset.
    """
    start, watermark, skipped = position.committed, applied.watermark, 0
    acknowledged = start if start is not None and position.metadata == LEDGER else 0
    if start is None and watermark is None:
        # An offset of our own, not the consumer's: a partition that is taken over once more
        # before anything was committed starts where it started first, not where it got to.
        start = position.reset
    if watermark is None and acknowledged:
        if applied.owned_before:
            # The ledger notes where a partition begins (`PartitionTask._open`) before anything is
            # applied, but for one that begins at 0. So what is missing here is all there ever was.
            start = 0
        else:
            log.warning(
                "%s: the ledger of this database knows nothing of this partition, though offset %d "
                "is committed: starting there. If the database is new, or restored from an old "
                "backup, what was applied before is not in it; to apply it again: pipeline rewind",
                source, acknowledged,
            )  # fmt: skip
            acknowledged = 0
    elif watermark is not None and (start is None or start < watermark):
        _tell_set_back(source, start, watermark, applied.folded, log)
        skipped = max(0, watermark - (position.start if start is None else start))
        start = watermark
    elif watermark is not None and start is not None and start > watermark:
        if acknowledged:
            start = watermark
        else:
            log.warning(
                "%s: starting at offset %d, to which the group was moved from outside; the ledger "
                "knows all below %d", source, start, watermark,
            )  # fmt: skip
    found = _within_the_log(source, start, position, log)
    if found is not None:
        log.info("%s starts at offset %d: %s", source, found, _reason(found, applied, position))
    return Start(found, skipped, acknowledged)


def _reason(offset: int, applied: AppliedOffsets, position: Position) -> str:
    """Why a partition starts at an offset, for people."""
    if offset == position.committed:
        return "the group's offset"
    if offset == applied.watermark:
        return "the ledger has all below it"
    if offset == position.reset and position.committed is None:
        return "the group has no offset there, so by auto_offset_reset"
    if offset == position.start:
        return "the first record that Kafka still has"
    return "the ledger has nothing of what the group's offset says"


def _tell_set_back(
    source: TopicPartition,
    start: int | None,
    watermark: int,
    folded: int | None,
    log: logging.Logger,
) -> None:
    if start is not None and folded is not None and start < folded:
        log.warning(
            "%s: the group's offset was set back to %d from outside, but the ledger in the "
            "database has everything below %d applied, so nothing is applied again; for a "
            "deliberate replay, stop all instances and use: pipeline rewind",
            source, start, watermark,
        )  # fmt: skip


def _within_the_log(
    source: TopicPartition, start: int | None, position: Position, log: logging.Logger
) -> int | None:
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
