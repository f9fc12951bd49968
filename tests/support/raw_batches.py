"""Record batches byte by byte, for records that no Python client would make.

Producers in C, Go or PHP write header names that are not UTF-8, and broken ones write worse::

    record = RawRecord(value=b"{}", headers=[(b"caf\\xe9", b"x")])
    produce_raw(servers.bootstrap, topic, 0, raw_batch([record]))
    produce_raw(servers.bootstrap, topic, 0, raw_batch([record], codec="gzip"))

The layout is that of Kafka's protocol guide, "Record Batch", version 2. The broker looks into each
batch, compressed or not, and refuses records that are framed wrong.
"""

from __future__ import annotations

import gzip
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import crc32c
from kafka.errors import NoError, NotLeaderForPartitionError, for_code
from kafka.protocol.producer import ProduceRequest

from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE
from tests.support.topics import admin_of

Codec = Literal["none", "gzip"]
CODECS: Mapping[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, bytes),
    "gzip": (1, gzip.compress),
}


@attrs.frozen
class RawRecord:
    """A record. ``body`` takes the place of everything after its length, if given."""

    value: bytes | None = None
    key: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    timestamp: int | None = None
    """Milliseconds since 1970; None: now."""
    body: bytes | None = None


def raw_batch(records: Sequence[RawRecord], codec: Codec = "none") -> bytes:
    """A batch of version 2, with the right checksum."""
    now = int(time.time() * 1000)
    times = [now if record.timestamp is None else record.timestamp for record in records]
    attributes, compress = CODECS[codec]
    bodies = b"".join(
        _framed(_body(record, offset, when - times[0]) if record.body is None else record.body)
        for offset, (record, when) in enumerate(zip(records, times, strict=True))
    )
    no_producer = (-1, -1, -1)
    count = len(records)
    checked = struct.pack(
        ">hiqqqhii", attributes, count - 1, times[0], max(times), *no_producer, count
    ) + compress(bodies)  # fmt: skip
    after_length = struct.pack(">ibI", -1, 2, crc32c.crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(after_length)) + after_length


def produce_raw(bootstrap: str, topic: str, partition: int, batch: bytes) -> int:
    """Give a batch to the partition's leader; the offset of its first record.

    Raises the KafkaError that the broker answers with, CorruptRecordError for instance.
    """
    topic_type = ProduceRequest.TopicProduceData
    part = topic_type.PartitionProduceData(index=partition, records=batch)
    request = ProduceRequest(
        transactional_id=None,
        acks=-1,
        timeout_ms=10_000,
        topic_data=[topic_type(name=topic, partition_data=[part])],
        min_version=3,
        max_version=9,  # the last one that names topics instead of their ids
    )
    results: list[Any] = []

    def answered() -> bool:
        with admin_of(bootstrap) as admin:
            (told,) = admin.describe_topics([topic])
            leaders = {each["partition_index"]: each["leader_id"] for each in told["partitions"]}
            answer = admin._manager.run(admin._manager.send, request, leaders[partition])
        results[:] = answer.responses[0].partition_responses
        return for_code(results[0].error_code) is not NotLeaderForPartitionError

    # A broker may hear a moment later than the metadata say that it leads a new partition.
    wait_until(answered, PATIENCE)
    problem = for_code(results[0].error_code)
    if problem is not NoError:
        raise problem(getattr(results[0], "error_message", None))
    offset: int = results[0].base_offset
    return offset


def varint(number: int) -> bytes:
    """A signed number as Kafka's varint: zigzag, seven bits a byte, the lowest first."""
    left = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while left > 0x7F:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    encoded.append(left)
    return bytes(encoded)


def _framed(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def _body(record: RawRecord, offset: int, after: int) -> bytes:
    headers = b"".join(_framed(name) + _framed(value) for name, value in record.headers)
    start = b"\0" + varint(after) + varint(offset)
    return (
        start + _framed(record.key) + _framed(record.value) + varint(len(record.headers)) + headers
    )
