"""Kafka's default partitioner: what Kafka's own Java client makes of the same keys.

The vectors were printed by the client itself (kafka-clients 4.1.1), with its jars on the class path:

    java -cp "$HOME/.cache/pipeline/kafka-4.1.1/*" tests/support/java/Murmur2Vectors.java | sort -u | sed 's/^ /- /' > tests/support/java/murmur2.txt
"""  # noqa: E501 (a command)

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.partitioner import murmur2, partition_for

VECTORS = (Path(__file__).parents[1] / "support" / "java" / "murmur2.txt").read_text().splitlines()
PARTITIONS = (1, 6, 64, 1000)


@pytest.mark.parametrize("vector", VECTORS)
def test_hash_and_partition_are_those_of_kafkas_java_client(vector: str) -> None:
    written, hashed, *places = vector.split()
    key = bytes.fromhex(written.replace("-", ""))
    assert murmur2(key) == int(hashed) % 2**32
    assert [partition_for(key, count) for count in PARTITIONS] == list(map(int, places))


def test_the_vectors_are_many_and_of_every_remainder_of_four() -> None:
    """The hash takes four bytes at a time; what is left is mixed in by a way of its own."""
    lengths = {len(vector.split()[0].replace("-", "")) // 2 for vector in VECTORS}
    assert lengths >= set(range(40))


def test_a_text_is_its_utf8() -> None:
    assert partition_for("Größe", 64) == partition_for("Größe".encode(), 64)


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one partition, not 0"):
        partition_for("a", 0)
