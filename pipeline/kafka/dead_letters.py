"""Dead letters: records that Postgres will never accept, kept on a topic of their own.

What a dead letter looks like, and its lesser forms: `letter_forms`. Those that the topic does not take:
`waiting_letters`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from functools import partial

import trio
from kafka.errors import KafkaError, KafkaTimeoutError, RetriableError

from pipeline.config.model import KafkaConfig
from pipeline.contracts.log_events import event
from pipeline.errors import PipelineError, UsageError
from pipeline.kafka.dead_letter_topic import advice, beyond_mending, problem_of, recently_kept
from pipeline.kafka.errors import unusable
from pipeline.kafka.letter_forms import UNSENDABLE, Letter
from pipeline.kafka.producer import (
    BLOCK_SECONDS,
    DELIVERY_SECONDS,
    AcknowledgedProducer,
    make_producer,
)
from pipeline.kafka.waiting_letters import WaitingLetter, WaitingLetters
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record

log = logging.getLogger(__name__)

RATE_SECONDS = 60.0
"""The span over which dead letters are counted."""

SILENT_SECONDS = 10.0
"""After which a dead letter topic that does not answer is told of."""

FAILURES = (KafkaError, OSError, ValueError, *UNSENDABLE)
"""What sending a letter raises; ValueError: no partition is known."""

PRODUCER_OPTIONS = {
    "batch_size": 0,  # a record that is refused takes no other along
    "max_block_ms": int(BLOCK_SECONDS * 1000),
    "delivery_timeout_ms": int(DELIVERY_SECONDS * 1000),
}


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
        self._waiting = WaitingLetters(topic)

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

    @property
    def waiting(self) -> int:
        """How many dead letters the topic does not take, now."""
        return len(self._waiting)

    async def tell_waiting(self) -> None:
        """Tell each minute of the dead letters that wait, if any. Runs until cancelled."""
        await self._waiting.tell()

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        """See `DeadLetters.put`. Sends again, with back-off, until the record is acknowledged.

        If the topic refuses the record for good, as it is, the record is kept in a lesser form: see
        `letter_forms`.

        A checkpoint. Cancelled, it returns at once; the record may have been kept or not.

        Raises:
            PipelineError: more dead letters than allowed within `RATE_SECONDS`, or the topic takes
                none and never will.
        """
        self._check_rate(rejection)
        with self._waiting.one(record) as wait:
            kept = await self._keep(Letter.of(record, rejection, self._group), wait)
        less = f", kept without {', '.join(kept.omitted)}" if kept.omitted else ""
        facts = event(
            "dead-letter", source=record.source, offset=record.offset,
            sqlstate=rejection.sqlstate, reason=rejection.reason,
        )  # fmt: skip
        log.warning("%s is a dead letter%s: %s", record, less, rejection.reason, extra=facts)

    async def _keep(self, letter: Letter, wait: WaitingLetter) -> Letter:
        """Send until a form is acknowledged; return that one.

        After each pause it begins with the whole letter again, as what was mended may mend all of it.
        """
        attempt, alone = 0, False  # by a producer of its own: it may be at fault
        while True:
            try:
                if not alone:
                    try:
                        return await self._send(letter, wait, alone=False)
                    except RetriableError:
                        raise
                    except FAILURES:
                        alone = True  # or it failed along with another one
                return await self._send_alone(letter, wait)
            except FAILURES as error:
                if beyond_mending(error):
                    why = advice(error, self._topic)
                    raise PipelineError(f"{wait.record} can't be kept: {why}") from error
                wait.because(error)
            await self._waiting.pause(attempt)
            attempt += 1

    async def _send_alone(self, letter: Letter, wait: WaitingLetter) -> Letter:
        """Send it by itself, in lesser and lesser forms until the topic takes one; return that one."""
        try:
            return await self._send(letter, wait, alone=True)
        except FAILURES as error:
            lesser = letter.lesser(error)
            if lesser is None:
                raise
        return await self._send_alone(lesser, wait)

    async def _send(self, letter: Letter, wait: WaitingLetter, *, alone: bool) -> Letter:
        """Send once; say so if no answer comes. The producer itself tries on meanwhile."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_silence, wait)
            try:
                await self._producer.send(self._topic, alone=alone, **letter.message())
            except FAILURES as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return letter

    async def _tell_silence(self, wait: WaitingLetter) -> None:
        await trio.sleep(SILENT_SECONDS)
        wait.because(KafkaTimeoutError(f"no answer for {SILENT_SECONDS:.0f} s"))

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
