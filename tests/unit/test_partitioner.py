"""Kafka's default partitioner: the hashes that the tests of Kafka's Java client expect."""

from __future__ import annotations

import pytest

from pipeline.kafka.partitioner import default_partition, murmur2

JAVA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""Key → hash, as Java's signed int (``UtilsTest.testMurmur2``)."""


@pytest.mark.parametrize("key", JAVA)
def test_the_hash_is_that_of_kafkas_java_client(key: str) -> None:
    assert murmur2(key.encode()) == JAVA[key] % 2**32


@pytest.mark.parametrize("key", JAVA)
@pytest.mark.parametrize("partitions", [1, 6, 64])
def test_the_partition_is_taken_from_the_lowest_31_bits(key: str, partitions: int) -> None:
    """Java's `Utils.toPositive` clears the sign; it does not negate."""
    assert default_partition(key.encode(), partitions) == (JAVA[key] & 0x7FFFFFFF) % partitions
