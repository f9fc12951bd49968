"""What waits for a partition, and the batch of it that is under way."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
from kafka import KafkaProducer
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.kafka.delivery import Delivery
from pipeline.kafka.waves import Wave

BATCH_BYTES = 512 * 1024
"""A batch takes no more records beyond this. Below what a topic takes by default (1 MiB)."""


@attrs.define(eq=False)
class Batch:
    """A batch under way: parts of deliveries (delivery, first record, count), in order."""

    parts: list[tuple[Delivery, int, int]]
    sent: Any
    producer: KafkaProducer
    since: float
    wave: Wave

    @property
    def count(self) -> int:
        return sum(count for _, _, count in self.parts)


@attrs.define(eq=False)
class PartitionQueue:
    """A partition's queue.

    Attributes:
        suspect: its last batch was not acknowledged, or is late.
        batch_bytes: what a batch of it may take; less where the topic refused larger ones.
        singly: how many records go alone, since one among them was refused.
    """

    key: KafkaPartition
    waiting: deque[Delivery] = attrs.field(factory=deque)
    under_way: Batch | None = None
    suspect: bool = False
    batch_bytes: int = BATCH_BYTES
    singly: int = 0
