"""Where a partition is read is decided here, and never by kafka-python.

kafka-python looks for a position by itself where it has none, or where the log has nothing at it any
more: the group's offset, or what ``auto_offset_reset`` says. So records that are still there would be
skipped without a word, or read twice. Both are put out of use: a partition without a position waits for
its task to seek, and an offset that is out of range is an error (see `moved_logs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError
from kafka.protocol.consumer import OffsetResetStrategy

from pipeline.contracts.kafka import LogMoved
from pipeline.records.record import TopicPartition

MOVED = (OffsetOutOfRangeError, LogTruncationError)
"""The log of a partition has nothing, or something else, at the offset that comes next."""


def keep_positions(consumer: KafkaConsumer) -> None:
    """Let one consumer set no position by itself. Before its first poll."""
    consumer._subscription._default_offset_reset_strategy = OffsetResetStrategy.NONE
    consumer._refresh_committed_offsets = _nothing_is_missing  # type: ignore[method-assign]


def _nothing_is_missing(timeout_ms: float | None = None) -> bool:
    """In the place of `KafkaConsumer._refresh_committed_offsets`: a task will seek."""
    del timeout_ms
    return True


def moved_logs(error: KafkaError) -> list[LogMoved]:
    """What an error of `MOVED` says, one partition each."""
    if isinstance(error, LogTruncationError):
        cuts: Mapping[Any, Any] = error.divergent_offsets
        return [
            LogMoved(TopicPartition(*place), cut=None if cut is None else cut.offset)
            for place, cut in cuts.items()
        ]
    offsets: Mapping[Any, int] = error.args[0]
    return [LogMoved(TopicPartition(*place), offset) for place, offset in offsets.items()]
