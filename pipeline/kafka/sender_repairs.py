"""Two methods of kafka-python's sending thread are replaced.

What follows a batch that the broker refuses: kafka-python gives an idempotent producer up at the first
record that is too large, or that may not be written: whatever it is sent afterwards fails with that same
error. There is no need: a batch that the broker refused at its first attempt was not written, so its
sequence numbers are free for the next one, and the producer stays as good as it was. After further attempts
that can't be known (an earlier one may have been written though its answer was lost), so then it is left to
kafka-python.

What it does between two waits: it looks through all partitions and all that is under way, four times per
request to a broker, and finds something once. So it looks only if there is something to send, and once per
`LOOK_SECONDS` for what has waited too long. That is a third of its work.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from kafka.errors import (
    AuthorizationError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from kafka.producer import KafkaProducer

REFUSALS = (
    AuthorizationError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
"""Answers of a broker that mean: nothing of this batch was written, now or later."""


LOOK_SECONDS = 0.5
"""How late a batch may be given up that Kafka has not acknowledged in time."""


def look_less(producer: KafkaProducer) -> None:
    """Let a producer's thread look for work only where there is some. Before it has sent anything."""
    sender = producer._sender
    sender._send_producer_data = _Looking(sender._send_producer_data, sender._accumulator)


class _Looking:
    """`Sender._send_producer_data`, which sends what there is, and returns how many ms to wait."""

    def __init__(self, look: Any, accumulator: Any) -> None:
        self._look = look
        self._accumulator = accumulator
        self._due = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if now < self._due and not any(tuple(self._accumulator._batches.values())):
            return (self._due - now) * 1000
        self._due = now + LOOK_SECONDS
        wait: float = self._look()
        return min(wait, LOOK_SECONDS * 1000)


def survive_refusals(producer: KafkaProducer) -> None:
    """Let a producer that has sent nothing yet go on after batches that the broker refuses.

    kafka-python doesn't split batches that are too large any more: it is told, and its caller does.
    """
    sender = producer._sender
    sender._can_split = _never
    sender._dispatch_error = partial(_refuse_or_dispatch, sender, sender._dispatch_error)


def _never(*_: object) -> bool:
    return False


def _refuse_or_dispatch(
    sender: Any, dispatch: Any, batch: Any, exception: Exception, partition_response: Any
) -> None:
    """Fail a batch that was refused at its first attempt; leave any other to kafka-python.

    Runs on the producer's thread. While the batch was under way its partition was muted, so no other
    batch of the partition has sequence numbers after its own.
    """
    manager = sender._transaction_manager
    refused = partition_response is not None and isinstance(exception, REFUSALS)
    if not refused or batch.attempts or not manager.producer_id_and_epoch.match(batch):
        dispatch(batch, exception, partition_response)
        return
    manager.set_sequence_number(batch.topic_partition, batch.base_sequence)
    sender._maybe_remove_from_inflight_batches(batch)
    sender._accumulator.deallocate(batch)
    sender._accumulator.muted.discard(batch.topic_partition)
    batch.complete_exceptionally(exception, lambda _: exception)
