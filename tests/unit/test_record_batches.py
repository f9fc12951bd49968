"""The compiled decoder gives what kafka-python's own gives, for every sort of fetched data."""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

from pipeline.kafka.record_batches import CompiledPartitionRecords

SOURCE = TopicPartition("sessions", 3)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
Message = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

Aborted = namedtuple("Aborted", ["producer_id", "first_offset"])


def batch(
    messages: Sequence[Message],
    *,
    codec: int = 0,
    magic: int = 2,
    base: int = 0,
    producer_id: int = -1,
    control: int | None = None,
) -> bytes:
    """A record batch whose messages stand at ``base`` + their own offset."""
    transactional = producer_id >= 0
    builder = MemoryRecordsBuilder(
        magic, codec, 1 << 20,
        transactional=transactional, producer_id=producer_id,
        producer_epoch=0 if transactional else -1, base_sequence=0 if transactional else -1,
    )  # fmt: skip
    for offset, timestamp, key, value, headers in messages:
        if magic == 2:
            builder._builder.append(offset, timestamp, key, value, headers)
        else:
            builder._builder.append(offset, timestamp=timestamp, key=key, value=value)
    builder.close()
    data = bytearray(builder.buffer())
    if magic == 2:
        if control is not None:
            (attributes,) = struct.unpack_from(">h", data, 21)
            struct.pack_into(">h", data, 21, attributes | 0x20)
            struct.pack_into(">I", data, 17, crc32c.crc32c(bytes(data[21:])))
        struct.pack_into(">q", data, 0, base)  # not covered by the checksum
    return bytes(data)


def plain(count: int, first: int = 0) -> list[Message]:
    return [(n, 1_700_000_000_000 + n, b"k%d" % n, b"v%d" % n, []) for n in range(first, count)]


def decoded(cls: Any, data: bytes, fetch_offset: int = 0, sizes: int = 7, **options: Any) -> Any:
    """All records as tuples, taken ``sizes`` at a time, and the position after the last."""
    part = cls(fetch_offset, SOURCE, MemoryRecords(data), **options)
    found: list[Any] = []
    while part:
        taken = part.take(sizes)
        if cls is CompiledPartitionRecords:
            opened = [(len(batch), batch.records()) for batch in taken]
            assert all(most >= len(records) for most, records in opened)
            taken = [record for _, records in opened for record in records]
        found += [(r.offset, r.timestamp, r.key, r.value, list(r.headers or [])) for r in taken]
    return found, part.next_fetch_offset


def assert_same(data: bytes, **options: Any) -> list[Any]:
    ours = decoded(CompiledPartitionRecords, data, **options)
    theirs = decoded(Fetcher.PartitionRecords, data, **options)
    assert ours == theirs
    found: list[Any] = ours[0]
    return found


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
def test_every_codec(codec: int) -> None:
    data = batch(plain(40), codec=codec) + batch(plain(25), codec=codec, base=40)
    assert len(assert_same(data)) == 65


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1], ids=["none", "gzip"])
def test_old_formats_take_the_pure_path(magic: int, codec: int) -> None:
    assert len(assert_same(batch(plain(20), magic=magic, codec=codec))) == 20


def test_an_old_format_after_a_new_one() -> None:
    data = batch(plain(5)) + batch(plain(12, first=5), magic=1)
    assert len(assert_same(data)) == 12


_texts = st.none() | st.binary(max_size=40)
_headers = st.lists(st.tuples(st.text(max_size=8), _texts), max_size=3)


@given(
    messages=st.lists(
        st.tuples(st.integers(1, 5), _texts, _texts, _headers), min_size=1, max_size=30
    ),
    base=st.integers(0, 1 << 40),
    sizes=st.integers(1, 40),
    start=st.integers(0, 20),
)
def test_nulls_headers_holes_and_starting_amid_a_batch(
    messages: list[Any], base: int, sizes: int, start: int
) -> None:
    offset, made = -1, []
    for step, key, value, headers in messages:  # a step above 1 is a hole that compaction left
        offset += step
        made.append((offset, 1_700_000_000_000, key, value, headers))
    data = batch(made, base=base) + batch(plain(3), base=base + offset + 1)
    assert_same(data, fetch_offset=base + start, sizes=sizes)


def test_a_batch_that_compaction_has_emptied_moves_the_position() -> None:
    data = bytearray(batch(plain(1), base=10))
    struct.pack_into(">i", data, 23, 9)  # last offset delta: the batch ends at offset 19
    struct.pack_into(">I", data, 17, crc32c.crc32c(bytes(data[21:])))
    _, position = decoded(CompiledPartitionRecords, bytes(data), fetch_offset=10)
    assert position == 20
    assert_same(bytes(data), fetch_offset=10)


def test_control_batches_are_no_records() -> None:
    marker: list[Message] = [(0, 0, struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 0), [])]
    data = batch(plain(4), producer_id=7) + batch(marker, base=4, producer_id=7, control=1)
    assert len(assert_same(data)) == 4


def test_aborted_transactions_are_skipped_when_only_committed_is_read() -> None:
    abort: list[Message] = [(0, 0, struct.pack(">hh", 0, 0), struct.pack(">hi", 0, 0), [])]
    data = (
        batch(plain(4), producer_id=7)
        + batch(abort, base=4, producer_id=7, control=0)
        + batch(plain(3), base=5, producer_id=7)
    )
    options = {
        "isolation_level": IsolationLevel.READ_COMMITTED,
        "aborted_transactions": [Aborted(7, 0)],
    }
    assert [record[0] for record in assert_same(data, **options)] == [5, 6, 7]


def test_a_corrupt_batch_is_refused() -> None:
    data = bytearray(batch(plain(4)))
    data[-1] ^= 0xFF
    for cls in (CompiledPartitionRecords, Fetcher.PartitionRecords):
        with pytest.raises(CorruptRecordError):
            decoded(cls, bytes(data))
