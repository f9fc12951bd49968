"""A thread that sends events to Kafka at a given rate, and remembers what it sent."""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import Event as Flag
from typing import Any

import trio
from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.demo.events import PARTITIONS, Event, Model, partition_of
from pipeline.errors import PipelineError

PORTION_SECONDS = 0.02
FLUSH_SECONDS = 20.0


class Producer:
    """Sends events for ``seconds``, ``rate`` per second, and keeps the model of what they amount to.

    Attributes:
        model: the rows that must be there in the end.
        sent_at: for each partition, when each of its records was sent (`time.monotonic`): a new
            topic's offsets count from 0, so a record's place in the list is its offset.
    """

    def __init__(
        self, bootstrap: str, topic: str, source: Iterable[Event], rate: int, seconds: float
    ) -> None:
        self.model = Model()
        self.sent_at: list[list[float]] = [[] for _ in range(PARTITIONS)]
        self._bootstrap = bootstrap
        self._topic = topic
        self._source = iter(source)
        self._rate = rate
        self._seconds = seconds
        self._stopped = Flag()
        self._failure: BaseException | None = None

    @property
    def sent(self) -> int:
        """How many events were sent."""
        return sum(map(len, self.sent_at))

    async def produce(self) -> None:
        """Send until the time is over and Kafka has everything.

        A checkpoint. Cancelled, it sends no more; the thread is left to end by itself.

        Raises:
            PipelineError: Kafka did not take an event.
        """
        try:
            await trio.to_thread.run_sync(self._run, abandon_on_cancel=True)
        finally:
            self._stopped.set()

    def _run(self) -> None:
        try:
            producer = KafkaProducer(bootstrap_servers=self._bootstrap, acks="all", linger_ms=5)
            try:
                self._send_all(producer)
                producer.flush(timeout=FLUSH_SECONDS)
            finally:
                producer.close(timeout=5)
        except KafkaError as error:
            raise PipelineError(f"Kafka did not take the events: {error}") from error
        if self._failure is not None:
            raise PipelineError(f"Kafka did not take an event: {self._failure}")

    def _send_all(self, producer: Any) -> None:
        start, sent = time.monotonic(), 0
        while (elapsed := time.monotonic() - start) < self._seconds:
            due = int(elapsed * self._rate)
            while sent < due and not self._stopped.is_set():
                self._send(producer, next(self._source))
                sent += 1
            if self._stopped.wait(PORTION_SECONDS):
                return

    def _send(self, producer: Any, event: Event) -> None:
        """Send an event with its tenant as the key, so that Kafka's default partitioner places it."""
        future = producer.send(self._topic, key=event.tenant.encode(), value=event.value())
        future.add_errback(self._failed)
        self.sent_at[partition_of(event.tenant)].append(time.monotonic())
        self.model.apply(event)

    def _failed(self, error: BaseException) -> None:
        self._failure = error
