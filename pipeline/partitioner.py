"""Where Kafka's default partitioner puts a record with a key, in every language.

For producers of your own, and for tools that must know where a tenant is: it needs no connection.

    from pipeline.partitioner import partition_for
    partition_for(b"app-7", 6)

The hash is murmur2 as in Kafka's Java client (``org.apache.kafka.common.utils.Utils.murmur2``), and
the partition is its lowest 31 bits modulo the number of partitions (``Utils.toPositive``). librdkafka's
own default is another one: set ``partitioner=murmur2_random`` there.
"""

from __future__ import annotations

from kafka.partitioner.default import murmur2 as _murmur2


def murmur2(key: bytes) -> int:
    """Return a key's murmur2 hash as an unsigned 32-bit number."""
    return _murmur2(key)


def partition_for(key: bytes | str, partitions: int) -> int:
    """Return the number of the partition that a key's records are in.

    Args:
        key: of the message; a text stands for its UTF-8.
        partitions: how many the topic has.

    Raises:
        ValueError: ``partitions`` is below 1.
    """
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    data = key.encode() if isinstance(key, str) else key
    return (_murmur2(data) & 0x7FFFFFFF) % partitions
