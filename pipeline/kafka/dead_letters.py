"""Dead letters: records that Postgres will never accept, kept on a topic of their own.

A dead letter is the record as it was (key, value, headers), with headers added that say where it was
and why it could not be applied: Kafka Connect's names, so that its tools read them, and ours.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
import trio
from kafka.errors import (
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RetriableError,
)

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError, UsageError
from pipeline.kafka.dead_letter_topic import advice, problem_of, recently_kept
from pipeline.kafka.errors import unusable
from pipeline.kafka.producer import (
    BLOCK_SECONDS,
    DELIVERY_SECONDS,
    AcknowledgedProducer,
    make_producer,
)
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

SILENT_SECONDS = 10.0
"""After which a dead letter topic that does not answer is told of."""

OMITTED = OURS + "omitted"
"""The header that lists what of a record was too large to be kept: a JSON list."""

TIMESTAMP = OURS + "timestamp"
"""The header with a record's timestamp, in ms, if the topic refused it."""

REASON_BYTES = 1000
"""How much of each header is kept where a record is too large."""

PRODUCER_OPTIONS = {
    "batch_size": 0,  # a record that is refused takes no other along
    "max_block_ms": int(BLOCK_SECONDS * 1000),
    "delivery_timeout_ms": int(DELIVERY_SECONDS * 1000),
}

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
    """Keeps dead letters on a topic, acknowledged by all of its replicas. In Trio.

    Args:
        producer: sends them.
        topic: where they are kept.
        group: the consumer group that they come from.
        max_per_minute: how many may be kept within `RATE_SECONDS`.
        recent: how many seconds ago a former process kept its last ones, the oldest first.
    """

    def __init__(
        self,
        producer: AcknowledgedProducer,
        topic: str,
        group: str,
        max_per_minute: int,
        recent: Iterable[float] = (),
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._group = group
        self.max_per_minute = max_per_minute
        """May be set while this runs."""
        self._kept = deque(trio.current_time() - seconds for seconds in recent)
        self._trouble: str | None = None

    @classmethod
    async def open(
        cls, kafka: KafkaConfig, topic: str, client_id: str, max_per_minute: int
    ) -> DeadLetterTopic:
        """Connect a producer, and see whether the topic can be written.

        A checkpoint. If cancelled, it returns at once; a connection that is made nevertheless ends
        with the process.

        Raises:
            PipelineError: no broker answers, the topic does not exist, or it may not be written.
        """
        make = partial(make_producer, kafka, client_id, **PRODUCER_OPTIONS)
        try:
            producer = await trio.to_thread.run_sync(make, abandon_on_cancel=True)
            problem = await trio.to_thread.run_sync(
                partial(problem_of, kafka, client_id, topic), abandon_on_cancel=True
            )
        except (KafkaError, OSError) as error:
            raise unusable(kafka, error) from error
        if problem is not None:
            raise UsageError(f"[errors] dead_letter_topic: {problem}")
        recent = await trio.to_thread.run_sync(
            partial(recently_kept, kafka, client_id, topic, RATE_SECONDS, max_per_minute),
            abandon_on_cancel=True,
        )
        sender = AcknowledgedProducer(producer, make)
        return cls(sender, topic, kafka.group_id, max_per_minute, recent)

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        """See `DeadLetters.put`. Sends again, with back-off, until the record is acknowledged.

        If the topic refuses the record for good, as it is, the record is kept in a lesser form: see
        `lesser`.

        A checkpoint. Cancelled, it returns at once; the record may have been kept or not.

        Raises:
            PipelineError: more dead letters than allowed within `RATE_SECONDS`.
        """
        self._check_rate(rejection)
        letter = letter_of(record, rejection, self._group)
        attempt, alone = 0, False
        while True:
            try:
                await self._send(letter, record, alone=alone)
                break
            except (KafkaError, OSError, ValueError) as error:  # ValueError: no partition is known
                smaller = lesser(letter, error, record) if alone else None
                if smaller is not None:
                    letter = smaller
                    continue
                self._tell_trouble(record, error)
                if not alone and not isinstance(error, RetriableError):
                    alone = True
                    continue
                await trio.sleep(BACKOFF.seconds(attempt))
                attempt += 1
        if self._trouble is not None:
            self._trouble = None
            log.warning("the dead letter topic %s takes records again", self._topic)
        log.warning("%s is a dead letter: %s", record, rejection.reason)

    async def _send(self, letter: dict[str, Any], record: Record, *, alone: bool) -> None:
        """Send once; say so if no answer comes. The producer itself tries on meanwhile."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_silence, record)
            try:
                await self._producer.send(self._topic, alone=alone, **letter)
            except (KafkaError, OSError, ValueError) as error:
                failure: Exception | None = error
            else:
                failure = None
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _tell_silence(self, record: Record) -> None:
        await trio.sleep(SILENT_SECONDS)
        self._tell_trouble(record, KafkaTimeoutError(f"no answer for {SILENT_SECONDS:.0f} s"))

    def _tell_trouble(self, record: Record, error: Exception) -> None:
        """Say once why the topic takes no records; again only if the reason is another one."""
        why = advice(error, self._topic)
        if why != self._trouble:
            self._trouble = why
            log.error(
                "%s is not among the dead letters yet: %s. It is sent again until it is; its "
                "partition waits, others go on",
                record,
                why,
            )

    def _check_rate(self, rejection: DeadLetterReason) -> None:
        now = trio.current_time()
        while self._kept and self._kept[0] <= now - RATE_SECONDS:
            self._kept.popleft()
        if len(self._kept) >= self.max_per_minute:
            raise PipelineError(
                f"more than {self.max_per_minute} dead letters within a minute: this looks like a "
                f"change that broke everything, not like single bad records. The last reason: "
                f"{rejection.reason}. Nothing is lost; mend the cause and start again, or raise "
                "[errors] max_dead_letters_per_minute"
            )
        self._kept.append(now)

    async def close(self) -> None:
        """See `AcknowledgedProducer.close`."""
        await self._producer.close()


def letter_of(record: Record, rejection: DeadLetterReason, group: str) -> dict[str, Any]:
    """Return a dead letter as the arguments of `KafkaProducer.send`."""
    value, headers = without_nulls(record)
    return {
        "key": record.key,
        "value": value,
        "headers": headers + headers_of(record, rejection, group),
        "timestamp_ms": record.timestamp if record.timestamp >= 0 else None,
    }


def lesser(letter: dict[str, Any], error: Exception, record: Record) -> dict[str, Any] | None:
    """Return the next form of a dead letter that the topic refuses for good; None if there is none.

    Too large: first without the value, then also without the record's own key and headers. The
    header `OMITTED` lists what is missing; topic, partition and offset say where the record is.
    A timestamp that the topic refuses is left out, and noted in the header `TIMESTAMP`.
    """
    headers = dict(letter["headers"])
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        omitted = orjson.loads(headers.get(OMITTED, b"[]"))
        if not omitted and letter["value"]:
            note = (OMITTED, orjson.dumps(["value"]))
            return {**letter, "value": b"", "headers": [*letter["headers"], note]}
        if "key" not in omitted:
            own = [
                (name, text) for name, text in letter["headers"] if name.startswith((CONNECT, OURS))
            ]
            own = [
                (name, text[:REASON_BYTES]) for name, text in own if name not in (OMITTED, NULLS)
            ]
            note = (OMITTED, orjson.dumps(["value", "key", "headers"]))
            return {**letter, "key": None, "value": b"", "headers": [*own, note]}
    if isinstance(error, InvalidTimestampError) and letter["timestamp_ms"] is not None:
        note = (TIMESTAMP, str(record.timestamp).encode())
        return {**letter, "timestamp_ms": None, "headers": [*letter["headers"], note]}
    return None


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
    sendable = [(_printable(name), b"" if text is None else text) for name, text in headers]
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
    return [(name, text.encode(errors="backslashreplace")) for name, text in texts.items()]


def _printable(name: str) -> str:
    """A header's name in UTF-8: bytes that are none were read as surrogates."""
    return name.encode(errors="backslashreplace").decode()
