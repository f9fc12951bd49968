"""Where Kafka's default partitioner puts a record with a key, in every language.

The hash is murmur2 as in Kafka's Java client (``org.apache.kafka.common.utils.Utils.murmur2``), and
the partition is its lowest 31 bits modulo the number of partitions (``Utils.toPositive``).
"""

from __future__ import annotations

from kafka.partitioner.default import murmur2 as _murmur2


def murmur2(key: bytes) -> int:
    """Return a key's murmur2 hash as an unsigned 32-bit number."""
    return _murmur2(key)


def default_partition(key: bytes, partitions: int) -> int:
    """Return the number of the partition that a key's records are in, of ``partitions``."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions
