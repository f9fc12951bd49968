"""Between Trio's thread and that of kafka-python's producer: batches there, answers back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import trio
from kafka import KafkaProducer
from kafka.errors import IllegalStateError
from kafka.producer.producer_batch import ProducerBatch

A = TypeVar("A")


def enqueue(producer: KafkaProducer, batch: ProducerBatch) -> None:
    """Put a batch into a producer's queue; its thread is to be woken afterwards: `wake`.

    Raises:
        IllegalStateError: the producer is closed.
    """
    accumulator = producer._sender._accumulator
    with accumulator._tp_lock(batch.topic_partition):
        if accumulator._closed:
            raise IllegalStateError("the producer is closed")
        accumulator._batches[batch.topic_partition].append(batch)
        accumulator._incomplete.add(batch)


def wake(producer: KafkaProducer) -> None:
    """Let a producer's thread look into its queue."""
    producer._sender.wakeup()


class Answers(Generic[A]):
    """Brings answers into Trio: one crossing for all that come at once.

    Made in Trio.

    Args:
        take: gets them, in Trio, in the order in which they came.
    """

    def __init__(self, take: Callable[[Sequence[A]], None]) -> None:
        self._take = take
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: list[A] = []
        self._lock = threading.Lock()

    def tell(self, answer: A) -> None:
        """Hand an answer over. On any thread: one of a producer that is retired may answer too."""
        with self._lock:
            self._waiting.append(answer)
            first = len(self._waiting) == 1
        if first:
            with suppress(trio.RunFinishedError):  # nobody waits any more
                self._token.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            answers, self._waiting = self._waiting, []
        self._take(answers)
