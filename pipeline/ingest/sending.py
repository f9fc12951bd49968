"""Messages into Kafka, and the outcome of each as something that a client can be told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol
from uuid import UUID

from pipeline.ingest.problems import Problem, RefusedError
from pipeline.kafka.batch_builder import Message
from pipeline.kafka.delivery import Delivery, NotDelivered, Outcome
from pipeline.partitioner import partition_for

RETRY_SECONDS = 2.0
"""What Retry-After says while Kafka is away."""

UNAVAILABLE = 503


class Writer(Protocol):
    """What is asked of a `pipeline.kafka.topic_writer.TopicWriter`."""

    partitions: int
    topic_id: UUID

    @property
    def pending_records(self) -> int: ...
    @property
    def pending_bytes(self) -> int: ...
    @property
    def trouble(self) -> NotDelivered | None: ...
    def accepts(self, partition: int) -> bool: ...
    def send(self, partition: int, messages: Sequence[Message]) -> Delivery: ...


_partition_of = lru_cache(maxsize=16_384)(partition_for)
"""The hash is computed in Python: 1 µs per four bytes."""

Placed = tuple[int, int]
"""Partition and offset of a record that is acknowledged."""

AWAY = "Kafka does not answer: nothing was written; try again"
IN_DOUBT = (
    "Kafka did not acknowledge in time: the record may be written or not; try again, with the same"
    " Idempotency-Key"
)
DETAILS = {
    "too-large": (413, "the record is larger than its topic takes"),
    "refused": (422, "Kafka refuses the record"),
    "not-allowed": (503, "the endpoint may not write to its topic; its operator must mend that"),
    "no-topic": (503, "the endpoint's topic is not there; its operator must mend that"),
    "away": (UNAVAILABLE, AWAY),
}


def problem_of(why: NotDelivered, index: int | None = None) -> Problem:
    """Say why a record is not delivered. Kafka's own words are for the log, not for clients."""
    status, detail = DETAILS[why.reason]
    if why.perhaps_written:
        status, detail = UNAVAILABLE, IN_DOUBT
    wait = RETRY_SECONDS if status == UNAVAILABLE else None
    return Problem(status, detail, index=index, retry_after=wait)


async def send_all(
    writer: Writer, prepared: Sequence[Message | Problem], *, single: bool
) -> Sequence[Placed | Problem]:
    """Send the messages among these; return for each its place or its problem. A checkpoint.

    Records of one partition are handed in together and in order. Cancelled, it returns at once, and
    they are written nevertheless.
    """
    if single:
        return (await _send_one(writer, prepared[0]),)
    count = writer.partitions
    results: list[Placed | Problem] = [(-1, -1)] * len(prepared)
    groups: dict[int, tuple[list[int], list[Message]]] = {}
    for index, message in enumerate(prepared):
        if isinstance(message, Problem):
            results[index] = message
            continue
        partition = _partition_of(message[0] or b"", count)
        places, messages = groups.setdefault(partition, ([], []))
        places.append(index)
        messages.append(message)
    sent: list[tuple[int, list[int], Delivery]] = []
    for partition, (places, messages) in groups.items():
        if writer.accepts(partition):
            sent.append((partition, places, writer.send(partition, messages)))
            continue
        for index in places:
            results[index] = problem_of(NotDelivered("away", ""), index)
    for partition, places, delivery in sent:
        await delivery.done.wait()
        for index, outcome in zip(places, delivery.outcomes, strict=True):
            results[index] = _told(partition, outcome, index)
    return results


async def _send_one(writer: Writer, message: Message | Problem) -> Placed | Problem:
    """Send the only record of a request."""
    if isinstance(message, Problem):
        return message
    partition = _partition_of(message[0] or b"", writer.partitions)
    if not writer.accepts(partition):
        return problem_of(NotDelivered("away", ""))
    delivery = writer.send(partition, (message,))
    await delivery.done.wait()
    return _told(partition, delivery.outcomes[0], None)


def _told(partition: int, outcome: Outcome, index: int | None) -> Placed | Problem:
    if isinstance(outcome, NotDelivered):
        return problem_of(outcome, index)
    return partition, outcome


def raise_trouble(writer: Writer) -> None:
    """Refuse a request before its body is read, while nothing can be written.

    Raises:
        RefusedError: 503.
    """
    if (trouble := writer.trouble) is not None:
        raise RefusedError(problem_of(trouble))
