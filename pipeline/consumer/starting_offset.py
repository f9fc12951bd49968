"""Where a partition that was taken over starts: what Kafka and the ledger know, reconciled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

import attrs

from pipeline.contracts.commit_metadata import is_of_another_topic, is_ours
from pipeline.contracts.kafka import Position
from pipeline.contracts.lane import Lane
from pipeline.contracts.log_events import event
from pipeline.contracts.store import AppliedOffsets
from pipeline.errors import PipelineError
from pipeline.records.ranges import outside
from pipeline.records.record import TopicPartition

log = logging.getLogger(__name__)


class LogEndsBelow(PipelineError):
    """The log ends below what is applied, or comes next."""


@attrs.frozen
class LogChange:
    """Why a partition of a running instance is taken over anew.

    Attributes:
        why: for people.
        made_anew: its topic is another one now: nothing that was committed to Kafka counts.
        cut: from this offset on the log is another one than what was read; None if that is not known.
    """

    why: str
    made_anew: bool = False
    cut: int | None = None


@attrs.frozen
class Start:
    """Where a partition starts.

    Attributes:
        offset: the first offset to read.
        skipped: how many records the ledger skips at once.
        lost: how many offsets Kafka's retention took before they were applied.
        acknowledged: below this offset every record was applied once, by what this program committed
            to Kafka: what is found missing there was lost by the database, and is applied again.
    """

    offset: int
    skipped: int = 0
    acknowledged: int = 0
    lost: int = 0


def starting_offset(
    source: TopicPartition,
    applied: AppliedOffsets,
    position: Position,
    topic_id: UUID,
    after: LogChange | None = None,
    lanes: Sequence[Lane] = (),
    log: logging.Logger = log,
) -> Start:
    """Reconcile what Kafka and the ledger know; the start, why, and differences are logged.

    - The ledger is ahead: it is right, and what it has is skipped. So it is after each crash.
    - Kafka is ahead, by an offset that this program committed (`commit_metadata.LEDGER`): then the
      ledger once knew as much, and the database has lost commits, or the offsets between are no
      records. Reading begins where the ledger's knowledge ends, and only what it has not is applied.
    - Kafka is ahead, by an offset from elsewhere: someone moved the group on, and that holds.
    - Kafka's offset was committed for a former topic of the same name: it says nothing, and the topic
      is read from its first record on, whatever the reset policy.

    Args:
        topic_id: the topic's id.
        after: what happened to the log, if this instance had the partition until now.
        lanes: the partition's. What they may answer for is not lost here: a lane tells of its own.
        log: whoever only wants to know gives a logger of its own: nothing else happens.

    Raises:
        LogEndsBelow: the log ends below the offset, or below what the ledger has.
        PipelineError: neither side knows an offset, and there is no reset policy.
    """
    position = _what_counts(position, topic_id, after)
    begin = _reconciled(source, applied, position, log)
    found = _within_the_log(source, begin.offset, applied, position)
    lost = outside(begin.offset, found, [(lane.from_offset, lane.until_offset) for lane in lanes])
    for first, end in lost:
        tell_lost(source, first, end, log)
    why = _reason(found, applied, position)
    facts = event("started", source=source, offset=found, reason=why)
    log.info("%s starts at offset %d: %s", source, found, why, extra=facts)
    return attrs.evolve(begin, offset=found, lost=sum(end - first for first, end in lost))


def _what_counts(position: Position, topic_id: UUID, after: LogChange | None) -> Position:
    """What of Kafka's position is about the log as it is now."""
    if (after is not None and after.made_anew) or is_of_another_topic(position.metadata, topic_id):
        position = attrs.evolve(position, committed=None, metadata="", reset=position.start)
    if after is not None and after.cut is not None:
        position = attrs.evolve(position, end=min(position.end, after.cut))
    return position


def _reconciled(
    source: TopicPartition, applied: AppliedOffsets, position: Position, log: logging.Logger
) -> Start:
    """Where to start by what was committed and what was applied, wherever the log begins and ends."""
    committed, watermark = position.committed, applied.watermark
    if watermark is None:
        return _without_watermark(source, applied, position, log)
    if committed is None or committed < watermark:
        _tell_set_back(source, committed, watermark, applied.folded, log)
        skipped = max(0, watermark - (position.start if committed is None else committed))
        return Start(watermark, skipped, _acknowledged(position))
    if committed > watermark and not _acknowledged(position):
        log.warning(
            "%s: starting at offset %d, to which the group was moved from outside; the ledger "
            "knows all below %d", source, committed, watermark,
            extra=event("moved-ahead", source=source, offset=committed),
        )  # fmt: skip
        return Start(committed)
    return Start(watermark, acknowledged=_acknowledged(position))


def _without_watermark(
    source: TopicPartition, applied: AppliedOffsets, position: Position, log: logging.Logger
) -> Start:
    """Where to start if the ledger knows nothing of the partition."""
    acknowledged = _acknowledged(position)
    if acknowledged and applied.owned_before:
        # The ledger notes where a partition begins (`PartitionTask._open`) before anything is
        # applied, but for one that begins at 0. So what is missing here is all there ever was.
        return Start(0, acknowledged=acknowledged)
    if acknowledged:
        log.warning(
            "%s: the ledger of this database knows nothing of this partition, though offset %d "
            "is committed: starting there. If the database is new, or restored from an old "
            "backup, what was applied before is not in it; to apply it again: pipeline rewind",
            source, acknowledged,
            extra=event("ledger-unknown", source=source, offset=acknowledged),
        )  # fmt: skip
    # An offset of our own, not the consumer's: a partition that is taken over once more before
    # anything was committed starts where it started first, not where it got to.
    start = position.reset if position.committed is None else position.committed
    if start is None:
        raise PipelineError(
            f"{source}: the group has no offset there, and kafka.auto_offset_reset is none: set it to "
            "earliest or latest, or set an offset by: pipeline rewind"
        )
    return Start(start)


def _acknowledged(position: Position) -> int:
    """Below which offset all is applied, as this program has committed; see `Start`."""
    return (position.committed or 0) if is_ours(position.metadata) else 0


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
            source, start, watermark, extra=event("set-back", source=source, offset=start),
        )  # fmt: skip


def tell_lost(
    source: TopicPartition,
    start: int,
    end: int,
    log: logging.Logger = log,
    lane: int | None = None,
) -> None:
    """Log that Kafka deleted records, half-open, before they were applied: of a lane, if one is given."""
    whose = "records" if lane is None else f"records of lane {lane}"
    log.error(
        "%s: the %s from offset %d up to %d were deleted by Kafka's retention before "
        "they were applied", source, whose, start, end,
        extra=event("records-lost", source=source, offset=start, until=end),
    )  # fmt: skip


def _within_the_log(
    source: TopicPartition,
    start: int,
    applied: AppliedOffsets,
    position: Position,
) -> int:
    known = max([start, *(end for _, end in applied.above)])
    if known > position.end:
        raise LogEndsBelow(
            f"{source}: offset {start} comes next, and all below {known} was read, but the log ends at "
            f"{position.end}: Kafka has lost records (an unclean leader election), or the topic's data "
            "was replaced. New records get the offsets of those that were applied before. To apply them "
            f"all, stop all instances and use: pipeline rewind --topic {source.topic} "
            f"--partition {source.partition} --to "
            f"{position.end}"
        )
    return max(start, position.start)
