"""Dead letters: records that Postgres will never accept, kept on a topic of their own.

A dead letter is the record as it was (key, value, headers), with headers added that say where it was
and why it could not be applied: Kafka Connect's names, so that its tools read them, and ours.
"""

from __future__ import annotations

import logging
from collections import deque
from datetime import UTC, datetime
from functools import partial

import orjson
import trio
from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError
from pipeline.kafka.producer import make_producer
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from pipeline.runtime.backoff import Backoff

log = logging.getLogger(__name__)

CONNECT = "__connect.errors."
"""What the names of Kafka Connect's headers begin with."""

OURS = "pipeline."
NULLS = OURS + "nulls"
"""The header that lists what was null and could not be sent so: a JSON list."""

RATE_SECONDS = 60.0
"""The span over which dead letters are counted."""

SEND_SECONDS = 30.0

BACKOFF = Backoff(initial=0.4, longest=10.0)
"""Between attempts to send a dead letter."""


class NoDeadLetters:
    """Stands in if no dead letter topic is configured: the first dead letter stops the pipeline."""

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        """See `DeadLetters.put`. Not a checkpoint.

        Raises:
            PipelineError: always.
        """
        raise PipelineError(
            f"{record} can't be applied: {rejection.reason}. To set such records aside and go on, "
            "name a topic in [errors] dead_letter_topic"
        )


class DeadLetterTopic:
    """Keeps dead letters on a topic, acknowledged by all of its replicas.

    In Trio. The producer's blocking calls run on worker threads.
    """

    def __init__(
        self, producer: KafkaProducer, topic: str, group: str, max_per_minute: int
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._group = group
        self._max_per_minute = max_per_minute
        self._kept: deque[float] = deque()

    @classmethod
    async def open(
        cls, kafka: KafkaConfig, topic: str, client_id: str, max_per_minute: int
    ) -> DeadLetterTopic:
        """Connect a producer.

        A checkpoint. If cancelled, it returns at once; a connection that is made nevertheless ends
        with the process.

        Raises:
            PipelineError: no broker answers.
        """
        try:
            producer = await trio.to_thread.run_sync(
                partial(make_producer, kafka, client_id), abandon_on_cancel=True
            )
        except (KafkaError, OSError) as error:
            raise PipelineError(f"Kafka can't be used for dead letters: {error}") from error
        return cls(producer, topic, kafka.group_id, max_per_minute)

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        """See `DeadLetters.put`. Sends again, with back-off, until the record is acknowledged.

        A checkpoint. Cancelling waits for the attempt under way, which its timeouts bound; the record
        may have been kept or not.

        Raises:
            PipelineError: more dead letters than allowed within `RATE_SECONDS`.
        """
        self._check_rate(rejection)
        value, headers = without_nulls(record)
        headers += headers_of(record, rejection, self._group)
        attempt = 0
        while True:
            try:
                await trio.to_thread.run_sync(
                    self._send, record.key, value, headers, record.timestamp
                )
            except KafkaError as error:
                log.warning("%s is not among the dead letters yet: %s", record, error)
                await trio.sleep(BACKOFF.seconds(attempt))
                attempt += 1
            else:
                log.warning("%s is a dead letter: %s", record, rejection.reason)
                return

    def _send(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        at: int,
    ) -> None:
        """Send once, and wait for the acknowledgement. Blocks; on a worker thread."""
        future = self._producer.send(
            self._topic, value=value, key=key, headers=headers, timestamp_ms=at if at >= 0 else None
        )
        self._producer.flush(timeout=SEND_SECONDS)
        future.get(timeout=SEND_SECONDS)

    def _check_rate(self, rejection: DeadLetterReason) -> None:
        now = trio.current_time()
        while self._kept and self._kept[0] <= now - RATE_SECONDS:
            self._kept.popleft()
        if len(self._kept) >= self._max_per_minute:
            raise PipelineError(
                f"more than {self._max_per_minute} dead letters within a minute: this looks like a "
                f"change that broke everything, not like single bad records. The last reason: "
                f"{rejection.reason}. Nothing is lost; mend the cause and start again, or raise "
                "[errors] max_dead_letters_per_minute"
            )
        self._kept.append(now)

    async def close(self) -> None:
        """Close the producer, within 5 s. A checkpoint; cancelling waits for that."""
        await trio.to_thread.run_sync(partial(self._producer.close, timeout=5))


def without_nulls(record: Record) -> tuple[bytes | None, list[tuple[str, bytes]]]:
    """Return a record's value and headers in the form that kafka-python's producer takes.

    It takes no null header, and no record whose key and value are both null. Empty bytes stand in for
    these nulls, and the header `NULLS` lists them: ``value``, and ``header:PLACE:NAME`` for each such
    header, counted from 0. `pipeline dlq replay` makes nulls of them again.
    """
    headers = list(record.headers or ())
    nulls = [f"header:{n}:{name}" for n, (name, value) in enumerate(headers) if value is None]
    value = record.value
    if record.key is None and value is None:
        nulls.append("value")
        value = b""
    sendable = [(name, b"" if text is None else text) for name, text in headers]
    return value, [*sendable, (NULLS, orjson.dumps(nulls))] if nulls else sendable


def headers_of(record: Record, rejection: DeadLetterReason, group: str) -> list[tuple[str, bytes]]:
    """Return the headers that say where a dead letter was and why it is one."""
    texts = {
        CONNECT + "topic": record.topic,
        CONNECT + "partition": str(record.partition),
        CONNECT + "offset": str(record.offset),
        CONNECT + "connector.name": group,
        CONNECT + "exception.class.name": rejection.error,
        CONNECT + "exception.message": rejection.reason,
        OURS + "sqlstate": rejection.sqlstate or "",
        OURS + "group": group,
        OURS + "attempts": str(rejection.attempts),
        OURS + "failed-at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    return [(name, text.encode()) for name, text in texts.items()]
