"""The compiled record decoder behind kafka-python's fetcher.

kafka-python stays the client in everything (group, metadata, fetch sessions, commits, security); only
the innermost loop, bytes of a record batch → records, is aiokafka's, which is compiled: 1.2 µs a
record instead of 6. It sits in one method of one class that the fetcher makes for each fetched
partition, so the seam is a subclass, given to one fetcher; nothing global is patched.

What stays as in the method that it replaces: checksums are verified, control batches and aborted
transactions are skipped, the next offset follows the batch and not its last record (compaction).
Formats older than version 2 take kafka-python's own path.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import kafka
from aiokafka.record._crecords.default_records import DefaultRecordBatch
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel

log = logging.getLogger(__name__)

KNOWN_VERSIONS = ("3.0.",)
"""The kafka-python versions whose fetcher this was written against."""


class CompiledPartitionRecords(Fetcher.PartitionRecords):
    """kafka-python's records of one fetched partition, yielding aiokafka's compiled records."""

    next_fetch_offset: int

    def take(self, n: int | None = None) -> list[Any]:
        """The next ``n`` records. The position follows the last one, once for the whole list."""
        records: list[Any] = super().take(n)
        if records:
            self.next_fetch_offset = max(self.next_fetch_offset, records[-1].offset + 1)
        return records

    def _unpack_records(
        self, tp: Any, records: Any, key_deserializer: Any, value_deserializer: Any
    ) -> Iterator[Any]:
        last = None
        while (batch := records.next_batch()) is not None:
            if batch.magic != 2:
                rest = _Rest(batch, records)
                yield from super()._unpack_records(tp, rest, key_deserializer, value_deserializer)
                return
            last = batch
            self.leader_epoch = batch.leader_epoch
            if self._holds_data(batch):
                yield from self._records_of(batch)
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)
        if last is not None:
            self.next_fetch_offset = last.next_offset
        self.drain()

    def _holds_data(self, batch: Any) -> bool:
        """Whether a batch has records for the consumer; keeps the list of aborted transactions."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return False
        return not batch.is_control_batch

    def _records_of(self, batch: Any) -> Iterator[Any]:
        compiled = DefaultRecordBatch(bytes(batch._buffer))
        if self.check_crcs and not compiled.validate_crc():
            raise CorruptRecordError(
                f"Record batch for partition {self.topic_partition} at offset "
                f"{batch.base_offset} failed crc check"
            )
        return iter(compiled)


class _Rest:
    """A batch that was read already, and those after it."""

    def __init__(self, first: Any, others: Any) -> None:
        self._first = first
        self._others = others

    def next_batch(self) -> Any:
        first, self._first = self._first, None
        return first if first is not None else self._others.next_batch()


def install(consumer: Any) -> bool:
    """Give a consumer the compiled decoder; False where this kafka-python is not known to take it."""
    if not kafka.__version__.startswith(KNOWN_VERSIONS):
        log.warning(
            "kafka-python %s is not known to the compiled record decoder: reading costs about three "
            "times the CPU until the pipeline is upgraded, or kafka-python set back to %sx",
            kafka.__version__, KNOWN_VERSIONS[-1],
        )  # fmt: skip
        return False
    consumer._fetcher.PartitionRecords = CompiledPartitionRecords
    return True
