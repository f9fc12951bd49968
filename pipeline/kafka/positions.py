"""What kafka-python's consumer knows of partitions' offsets. Every function blocks: for worker threads.

A partition that no broker leads just now (its last replica is away) is left out of the answers. Of
such, kafka-python makes a KeyError where others have a leader, or a timeout: one partition would hold
up all that are asked for with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka.errors import LeaderNotAvailableError
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.contracts.kafka import Position
from pipeline.records.record import TopicPartition

NO_LEADER = (None, -1)
"""What kafka-python's metadata say of a partition's leader: not known, not there."""


def positions(
    consumer: Any, sources: Iterable[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, Position]:
    """Where partitions that are led begin and end, and where the group stands.

    Raises:
        KafkaError: Kafka did not answer.
    """
    led = _led(consumer, sources)
    if not led:
        return {}
    committed = consumer._coordinator.fetch_committed_offsets(led, timeout_ms=timeout_ms)
    starts = _offsets(consumer.beginning_offsets, led, timeout_ms)
    ends = _offsets(consumer.end_offsets, led, timeout_ms)
    policy = consumer.config["auto_offset_reset"]
    resets = {"earliest": starts, "latest": ends}.get(policy, {})
    found = {}
    for source in led:
        offset = committed.get(source)
        found[TopicPartition(*source)] = Position(
            committed=None if offset is None else offset.offset,
            metadata="" if offset is None else offset.metadata,
            start=starts[source],
            end=ends[source],
            reset=resets.get(source),
        )
    return found


def ends(
    consumer: Any, sources: Iterable[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, int]:
    """The offset after each log's last record, of partitions that are led.

    Raises:
        KafkaError: Kafka did not answer.
    """
    led = _led(consumer, sources)
    found = _offsets(consumer.end_offsets, led, timeout_ms) if led else {}
    return {TopicPartition(*source): end for source, end in found.items()}


def _led(consumer: Any, sources: Iterable[TopicPartition]) -> list[KafkaPartition]:
    cluster = consumer._cluster
    partitions = [KafkaPartition(*source) for source in sources]
    led = [p for p in partitions if cluster.leader_for_partition(p) not in NO_LEADER]
    if len(led) < len(partitions):
        cluster.request_update()  # nobody else does while they are paused
    return led


def _offsets(ask: Any, partitions: list[KafkaPartition], timeout_ms: int) -> dict[Any, int]:
    try:
        found: dict[Any, int] = ask(partitions, timeout_ms=timeout_ms)
    except KeyError as error:  # a leader that went in this moment
        raise LeaderNotAvailableError(f"of {error.args[0]}") from error
    return found
