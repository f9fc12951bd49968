"""kafka-python's producer as it is made here, and records that are sent until they are acknowledged.

kafka-python's idempotent producer is of no use after an error that is not retriable: whatever it is
sent afterwards fails with that same error, be the record a good one or the cause mended. So such a
producer is closed, and another is made. Records that are under way fail along with the guilty one,
be they written or not, and would be written twice; so one record after another is sent, as long as the
brokers answer. A record that failed is sent again by a producer of its own, and whatever error that
one meets is the record's own.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio
from kafka import KafkaProducer
from kafka.errors import KafkaError, RetriableError
from kafka.future import Future
from kafka.producer.future import FutureRecordMetadata

from pipeline.config.model import KafkaConfig
from pipeline.kafka.options import (
    RECONNECT_MS,
    create_no_topics,
    reaching_options,
    remember_servers,
)

DELIVERY_SECONDS = 300.0
"""How long the producer itself tries to deliver a record. It recognises its own repetitions, so the
longer it tries, the rarer is a record that is written twice."""

BLOCK_SECONDS = 10.0
"""How long `send` waits for a topic that is not in the cluster's metadata."""

REQUEST_BYTES = 100 * 1024 * 1024
"""The largest request; what a broker takes by default (``socket.request.max.bytes``). So it is the
topic that decides which record is too large, and not kafka-python, whose default is 1 MiB."""

TURN_SECONDS = 2.0
"""How long others wait for a record's acknowledgement before they are sent too."""

CLOSE_SECONDS = 5.0
DISCARD_SECONDS = 0.5


def make_producer(kafka: KafkaConfig, client_id: str, **options: Any) -> KafkaProducer:
    """Make an idempotent producer whose records are acknowledged by all replicas. Blocks.

    It makes no topics.

    Args:
        options: more of `kafka.KafkaProducer`'s options.

    Raises:
        KafkaError, OSError: no broker answers.
    """
    producer = KafkaProducer(
        **reaching_options(kafka, client_id, KafkaProducer.DEFAULT_CONFIG),
        acks="all",
        enable_idempotence=True,
        max_request_size=REQUEST_BYTES,
        reconnect_backoff_max_ms=RECONNECT_MS,
        **options,
    )
    create_no_topics(producer._metadata)
    remember_servers(producer._metadata, kafka)
    return producer


class AcknowledgedProducer:
    """Sends single records and waits for each acknowledgement. In Trio.

    Args:
        producer: the first producer; None: it is made when the first record is sent.
        make: makes another; blocks, runs on a worker thread.
    """

    def __init__(self, producer: KafkaProducer | None, make: Callable[[], KafkaProducer]) -> None:
        self._producer = producer
        self._make = make
        self._turns = trio.Lock()
        self._threads = trio.CapacityLimiter(20)  # of its own: a missing topic blocks all of these

    async def send(self, topic: str, *, alone: bool = False, **message: Any) -> None:
        """Send a record; return when all replicas have it.

        A checkpoint. Cancelled, it returns at once; the record may be written nevertheless.

        Args:
            alone: send by a producer of its own, so that an error is this record's.
            message: the arguments of `KafkaProducer.send`.

        Raises:
            KafkaError, OSError: the record was refused, or not acknowledged in time. It may have
                been written if the error is retriable.
        """
        if alone:
            producer = await self._run(self._make)
            try:
                await self._send(producer, topic, message)
            finally:
                with trio.CancelScope(shield=True):  # its thread would stay
                    await self._run(partial(close_producer, producer, DISCARD_SECONDS))
            return
        async with self._turns:
            producer = await self._shared()
            async with self._discarded_if_useless(producer):
                future = await self._run(partial(producer.send, topic, **message))
                with trio.move_on_after(TURN_SECONDS):
                    await _finished(future)
        async with self._discarded_if_useless(producer):
            await _finished(future)

    async def _send(self, producer: KafkaProducer, topic: str, message: dict[str, Any]) -> None:
        await _finished(await self._run(partial(producer.send, topic, **message)))

    async def _run(self, work: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)

    async def _shared(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = await self._run(self._make)
        return self._producer

    @asynccontextmanager
    async def _discarded_if_useless(self, producer: KafkaProducer) -> AsyncIterator[None]:
        try:
            yield
        except KafkaError as error:
            if not isinstance(error, RetriableError) and self._producer is producer:
                self._producer = None
                close = partial(close_producer, producer, DISCARD_SECONDS)
                await self._run(close)  # noqa: ASYNC120 (cancelled, nobody waits for the error)
            raise

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Close the producer, within so many seconds. A checkpoint; cancelling waits for that."""
        if self._producer is not None:
            await trio.to_thread.run_sync(close_producer, self._producer, seconds)


def close_producer(producer: KafkaProducer, seconds: float) -> None:
    """Close a producer, whatever it still has to send. Blocks."""
    try:
        producer.close(timeout=seconds)
    except KafkaError:  # what is not sent by then keeps kafka-python from closing
        producer._sender.force_close()


async def _finished(future: FutureRecordMetadata) -> None:
    await future_done(future)
    if future.exception is not None:
        raise future.exception


async def future_done(future: Future) -> None:
    """Wait until a future of kafka-python's is done. A checkpoint; no thread waits meanwhile."""
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    def tell(*_: object) -> None:
        if threading.get_ident() == here:
            done.set()
            return
        with suppress(trio.RunFinishedError):  # nobody waits any more
            token.run_sync_soon(done.set)

    here = threading.get_ident()
    future.add_both(tell)
    await done.wait()
