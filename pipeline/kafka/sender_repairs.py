"""One method of kafka-python's sending thread is replaced: what follows a batch that the broker refuses.

kafka-python gives an idempotent producer up at the first record that is too large, or that may not be
written: whatever it is sent afterwards fails with that same error. There is no need: a batch that the
broker refused at its first attempt was not written, so its sequence numbers are free for the next one,
and the producer stays as good as it was. After further attempts that can't be known (an earlier one
may have been written though its answer was lost), so then it is left to kafka-python.
"""

from __future__ import annotations

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
