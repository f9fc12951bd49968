"""The compiled record decoder behind kafka-python's fetcher.

kafka-python stays the client in everything (group, metadata, fetch sessions, commits, security). Only
the innermost loop, bytes of a record batch → records, is aiokafka's, which is compiled: 1.2 µs per
record instead of 6. That loop is one method of one class, which the fetcher instantiates for each
fetched partition; so the seam is a subclass, given to one fetcher. Nothing global is patched.

A poll hands out whole batches, checked and not decoded: they are decoded when their records are wanted
(`CompiledBatch.records`). So the polling thread, which must ask for the GIL at every step, has a few
steps per megabyte and not a few per record; and what waits is bytes, a fifth of what records take.

What stays as in the method that it replaces: checksums are verified, control batches and aborted
transactions are skipped, the next offset follows the batch and not its last record (compaction).
Formats older than version 2 are decoded by kafka-python's own code, `PLAIN_RECORDS` per batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import dropwhile, islice
from typing import Any

import attrs
from aiokafka.record._crecords.default_records import DefaultRecordBatch
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch as PlainRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.errors import PipelineError, one_line
from pipeline.kafka.odd_records import records_one_by_one
from pipeline.records.record import RawBatch, RawRecord

PLAIN_RECORDS = 500
"""How many records of an old format are handed out as one batch."""


@attrs.frozen
class PlainBatch:
    """Records of a format before version 2, decoded already."""

    decoded: Sequence[RawRecord]

    def __len__(self) -> int:
        return len(self.decoded)

    @property
    def size(self) -> int:
        """See `RawBatch.size`."""
        return sum(len(record.value or b"") for record in self.decoded)

    def records(self) -> Sequence[RawRecord]:
        """See `RawBatch.records`."""
        return self.decoded

    @property
    def offset(self) -> int:
        """The last record's offset."""
        return self.decoded[-1].offset


@attrs.frozen
class CompiledBatch:
    """A record batch whose checksum was verified, still compressed.

    Attributes:
        source: the partition that it was fetched from.
        batch: aiokafka's.
        data: its bytes.
        count: how many records it holds, those below ``first`` included.
        offset: the offset of its last record, or above it. kafka-python drops a batch whose offset is
            below the position.
        first: records below this offset are not wanted: the position was amid the batch.
        size: in bytes, compressed.
    """

    source: KafkaPartition
    batch: DefaultRecordBatch
    data: bytes
    count: int
    offset: int
    first: int
    size: int

    def __len__(self) -> int:
        return self.count

    def records(self) -> Sequence[RawRecord]:
        """See `RawBatch.records`.

        Raises:
            PipelineError: it can't be decoded, or the library for its codec is missing.
        """
        try:
            records: Sequence[RawRecord] = list(self.batch)
        except Exception:  # whatever it is, a single record may be to blame
            records = self._one_by_one()
        if self.batch.base_offset < self.first:
            return [record for record in records if record.offset >= self.first]
        return records

    def _one_by_one(self) -> Sequence[RawRecord]:
        try:
            return records_one_by_one(self.data)
        except Exception as error:  # a codec's own error, or that its library is missing
            topic, partition = self.source
            raise PipelineError(
                f"the record batch of {topic}-{partition} that ends at offset {self.offset} can't be "
                f"decoded: {one_line(error)}. To go on without it, stop all instances and use: "
                f"pipeline rewind --topic {topic} --partition {partition} --to {self.offset + 1}"
            ) from error


class CompiledPartitionRecords(Fetcher.PartitionRecords):
    """The records of one fetched partition, taken as `RawBatch`es.

    Used on the thread that polls, and during a join on the I/O thread, while the former waits.
    """

    def _unpack_records(
        self,
        tp: KafkaPartition,
        records: MemoryRecords,
        key_deserializer: Any,
        value_deserializer: Any,
    ) -> Iterator[RawBatch]:
        last = None
        while (batch := records.next_batch()) is not None:
            if batch.magic != 2:
                rest = super()._unpack_records(
                    tp, _Rest(batch, records), key_deserializer, value_deserializer
                )
                yield from _plain(dropwhile(self._maybe_skip_record, rest))
                return
            last = batch
            self.leader_epoch = batch.leader_epoch
            holds_data = self._holds_data(batch)
            compiled = self._compiled(batch) if holds_data else None
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)
            if compiled is not None:
                yield compiled
        if last is not None:
            self.next_fetch_offset = last.next_offset
        self.drain()

    def _holds_data(self, batch: PlainRecordBatch) -> bool:
        """Return whether a batch has records for the consumer; update the aborted transactions."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return False
        return not batch.is_control_batch

    def _compiled(self, batch: PlainRecordBatch) -> CompiledBatch:
        data = bytes(batch._buffer)
        compiled = DefaultRecordBatch(data)
        if self.check_crcs and not compiled.validate_crc():
            raise CorruptRecordError(
                f"Record batch for partition {self.topic_partition} at offset "
                f"{batch.base_offset} failed crc check"
            )
        self.bytes_read += batch.size_in_bytes
        return CompiledBatch(
            self.topic_partition, compiled, data, batch.records_count, batch.last_offset,
            self.fetch_offset, batch.size_in_bytes,
        )  # fmt: skip


def _plain(records: Iterator[Any]) -> Iterator[PlainBatch]:
    """Group records into batches. An error is raised after the records before it were yielded."""
    while True:
        some: list[Any] = []
        try:
            some.extend(islice(records, PLAIN_RECORDS))
        except Exception:  # raised again, after what came before it
            if some:
                yield PlainBatch(some)
            raise
        if not some:
            return
        yield PlainBatch(some)


class _Rest:
    """A batch that was read already and those after it, in the place of `MemoryRecords`."""

    def __init__(self, first: PlainRecordBatch, others: MemoryRecords) -> None:
        self._first: PlainRecordBatch | None = first
        self._others = others

    def next_batch(self) -> PlainRecordBatch | None:
        first, self._first = self._first, None
        return first if first is not None else self._others.next_batch()


def install_decoder(consumer: KafkaConsumer) -> None:
    """Give one consumer the compiled decoder: from then on its polls return `RawBatch`es."""
    fetcher = consumer._fetcher
    fetcher.PartitionRecords = CompiledPartitionRecords
