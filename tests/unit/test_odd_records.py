"""Batches that the compiled decoder refuses: their other records come through, and all that can be."""

from __future__ import annotations

import pytest
from kafka.record.memory_records import MemoryRecords
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.errors import PipelineError
from pipeline.kafka.odd_records import records_one_by_one
from pipeline.kafka.record_batches import CompiledBatch, CompiledPartitionRecords
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from pipeline.records.record import TopicPartition
from tests.support.raw_batches import Codec, RawRecord, raw_batch, varint

GOOD = RawRecord(value=b'{"id": 1}', key=b"k", headers=[("é".encode(), b"x"), (b"n", None)])
ODD = RawRecord(value=b'{"id": 2}', headers=[(b"caf\xe9", b"y")], timestamp=1_700_000_000_000)
BROKEN = RawRecord(body=varint(0) * 3 + varint(-1) * 2 + varint(1))
"""It says that it has a header, and has none."""


SOURCE = KafkaPartition("t", 3)


def compiled(data: bytes) -> CompiledBatch:
    (batch,) = CompiledPartitionRecords(0, SOURCE, MemoryRecords(data)).take()
    assert isinstance(batch, CompiledBatch)
    return batch


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_a_header_name_that_is_not_utf8_stops_neither_its_record_nor_others(codec: Codec) -> None:
    """It ended the program at every start, and every partition of the instance stood still."""
    first, second, third = compiled(raw_batch([GOOD, ODD, GOOD], codec)).records()
    assert (first.offset, first.key, first.value) == (0, b"k", GOOD.value)
    assert list(first.headers) == [("é", b"x"), ("n", None)]
    assert (second.offset, second.timestamp, second.key) == (1, ODD.timestamp, None)
    assert list(second.headers) == [("caf\udce9", b"y")]
    assert (third.offset, third.value) == (2, GOOD.value)


def test_both_ways_of_reading_find_the_same() -> None:
    batch = raw_batch([GOOD, RawRecord(timestamp=5), RawRecord(key=b"")])
    by_decoder, one_by_one = compiled(batch).records(), records_one_by_one(batch)
    names = ("offset", "timestamp", "key", "value")
    for name in names:
        assert [getattr(a, name) for a in by_decoder] == [getattr(b, name) for b in one_by_one]
    assert [list(a.headers) for a in by_decoder] == [list(b.headers) for b in one_by_one]


def test_a_record_that_is_framed_wrong_becomes_a_dead_letter_and_stops_no_other() -> None:
    records = compiled(raw_batch([GOOD, BROKEN, GOOD])).records()
    decode = json_decoder([Path.parse("id")])
    first, broken, third = decode(TopicPartition("t", 3), records)
    assert first.disposition is None
    assert third.disposition is None
    assert broken.offset == 1
    assert broken.disposition is not None
    assert "not JSON" in str(broken.disposition)


def test_a_batch_that_cant_be_decompressed_says_how_to_go_on_without_it() -> None:
    batch = bytearray(raw_batch([GOOD, GOOD], "gzip"))
    batch[70:80] = bytes(10)
    whole = compiled(raw_batch([GOOD, GOOD], "gzip"))
    broken = CompiledBatch(SOURCE, whole.batch, bytes(batch), 2, 1, 0, 1)
    with pytest.raises(PipelineError, match="--partition 3 --to 2"):
        broken._one_by_one()
