"""Kafka as the rest of the consumer sees it: a few Trio functions and four events.

The thread rules for everything in this file:

- kafka-python's consumer is polled by one worker thread at a time, in `KafkaClient.poll`. Seeks, pauses
  and resumes are queued in Trio; before the next poll its thread has them carried out on kafka-python's
  I/O thread. Commits and the reading of offsets are safe beside a poll, and each runs on a worker thread
  of its own. Polls go on while the group rebalances (see `polls`).
- The rebalance listener runs on kafka-python's I/O thread. It changes nothing but to pause what is
  assigned: it posts an event into Trio and awaits a `kafka.future.Future`, which Trio completes when
  the supervisor has carried the event out. Meanwhile the I/O thread goes on sending heartbeats, so a
  drain may take as long as it must.
- State of Trio's side is changed in Trio's thread only. A method says so if it runs on another one.

An assigned partition is paused before its first fetch, and is resumed when its task asks for that, with
the offset that it knows to be right.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

import trio
from kafka import KafkaConsumer
from kafka.errors import KafkaError, RebalanceInProgressError
from kafka.future import Future
from kafka.structs import OffsetAndMetadata
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.config.model import COMMIT_SECONDS, KafkaConfig
from pipeline.contracts.kafka import AssignmentEvent, Change, Event, Position
from pipeline.contracts.log_events import event
from pipeline.kafka.blocking_calls import BlockingCalls
from pipeline.kafka.commands import Commands, Pin
from pipeline.kafka.errors import in_words, raise_if_fatal, unusable
from pipeline.kafka.fetcher import free_tracebacks
from pipeline.kafka.listener import Listener
from pipeline.kafka.offsets import OffsetQueries
from pipeline.kafka.options import make_consumer
from pipeline.kafka.pinned_topics import PinnedTopics
from pipeline.kafka.polls import Polls
from pipeline.kafka.positions import MOVED, moved_logs
from pipeline.kafka.reader import read_first
from pipeline.kafka.record_batches import install_decoder
from pipeline.kafka.retried_errors import RetriedErrors
from pipeline.records.record import FirstRecords, RawBatch, Spans, TopicPartition

COMMIT_MS = int(COMMIT_SECONDS * 1000)
CLOSE_MS = 5000

IDLE_POLL_SECONDS = 0.5
BUSY_POLL_SECONDS = 0.025
"""While a partition is paused, its resuming must not wait long for a poll that finds nothing."""


class KafkaClient:
    """kafka-python's consumer behind Trio functions. See `Consumer` for what each method does.

    Args:
        consumer: kafka-python's, whose polls return `RawBatch`es (see `install_decoder`).
        read_first: reads the first record in each span, by a connection of its own. Blocks, and raises
            nothing.
        pin: lets a partition be fetched of one topic only (see `PinnedTopics`). On the I/O thread.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        *,
        read_first: Callable[[Spans], FirstRecords] = lambda _: {},
        pin: Pin = lambda _, __: None,
    ) -> None:
        self._consumer = consumer
        self._calls = BlockingCalls()
        self._retried = RetriedErrors()
        self._offsets = OffsetQueries(consumer, self._calls, read_first)
        self._token = trio.lowlevel.current_trio_token()
        self._commands = Commands(consumer, pin)
        self._told_joined = False
        self._send, self.events = trio.open_memory_channel[Event](math.inf)
        self._polling = trio.Lock()
        self._polls = Polls(consumer)

    @classmethod
    async def open(cls, config: KafkaConfig, client_id: str) -> KafkaClient:
        """Connect and subscribe; the group is joined by the first polls.

        A checkpoint. If cancelled, it returns at once; a connection that is made nevertheless ends
        with the process.

        Raises:
            PipelineError: no broker can be used, or an option is wrong.
        """
        try:
            consumer = await trio.to_thread.run_sync(
                partial(make_consumer, config, client_id), abandon_on_cancel=True
            )
        except (KafkaError, OSError, ValueError) as error:
            raise unusable(config, error) from error
        install_decoder(consumer)
        free_tracebacks(consumer)
        client = cls(
            consumer,
            read_first=partial(read_first, config, client_id),
            pin=PinnedTopics(consumer._fetcher).pin,
        )
        consumer.subscribe(topics=list(config.topics), listener=Listener(client.post))
        return client

    # Events, on kafka-python's I/O thread

    async def post(self, change: Change, partitions: Iterable[KafkaPartition]) -> None:
        """Hand an event to Trio and wait until it is carried out. On the I/O thread.

        The partitions are kafka-python's. Nothing is posted if there are none, or if Trio has ended.
        """
        partitions = sorted(partitions)
        if not partitions:
            return
        sources = tuple(TopicPartition(p.topic, p.partition) for p in partitions)
        if change is Change.ASSIGNED:
            self._consumer.pause(*partitions)
        carried_out = Future()
        net = self._consumer._net

        async def complete() -> None:  # the loop takes functions and coroutines, no partials
            carried_out.success(None)

        def done() -> None:
            net.call_soon_threadsafe(complete)

        event = AssignmentEvent(change, sources, done)
        try:
            self._token.run_sync_soon(self._receive, event)
        except trio.RunFinishedError:
            return  # Trio has ended: there is nothing left to drain
        await carried_out

    def _receive(self, event: AssignmentEvent) -> None:
        """Take an event in and pass it on. In Trio's thread."""
        if event.change is Change.ASSIGNED:
            self._commands.assigned(event.partitions)
        else:
            self._commands.given_up(event.partitions)
        self._told_joined = True
        try:
            self._send.send_nowait(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            event.done()  # the supervisor has ended, and its partition tasks with it

    # Polling

    async def poll(self) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        """See `Consumer.poll`.

        A checkpoint. Cancelling waits for a poll under way, some `IDLE_POLL_SECONDS` at most, and
        what it has fetched is returned.

        Raises:
            PipelineError: an error that no retry mends.
        """
        if self._calls.closing:
            await trio.sleep_forever()  # whoever closes ends the polling task
        async with self._polling:
            commands = self._commands.take()
            busy = self._commands.paused or commands is not None
            seconds = BUSY_POLL_SECONDS if busy else IDLE_POLL_SECONDS
            try:
                records = await trio.to_thread.run_sync(partial(self._poll, commands, seconds))
                self._tell_joined()
                # What was fetched before a seek that was asked for meanwhile must not come after it,
                # nor what was fetched before the partition was given up.
                return {s: found for s, found in records.items() if s not in self._commands.stale}
            except MOVED as error:
                self._tell_moved(error)
            except KafkaError as error:
                raise_if_fatal(error)
                self._retried.tell("polling Kafka failed, trying again", error)
        await trio.sleep(BUSY_POLL_SECONDS)
        return {}

    def _tell_joined(self) -> None:
        """Tell of the group's being joined, if that brought no partition and so no event of its own."""
        if self._polls.membership.joined and not self._told_joined:
            self._told_joined = True
            self._tell(AssignmentEvent(Change.ASSIGNED, (), _nobody_waits))

    def _tell_moved(self, error: KafkaError) -> None:
        """Tell once of each partition whose log moved, and pause it until its task seeks."""
        for moved in moved_logs(error):
            if self._commands.pause_until_sought(moved.source):
                self._tell(moved)

    def _tell(self, event: Event) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._send.send_nowait(event)

    def _poll(
        self, commands: Callable[[], None] | None, seconds: float
    ) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        """Carry out commands, then poll. Blocks; on a worker thread."""
        if commands is not None:
            self._polls.carry_out(commands)
        return self._polls.poll(seconds)

    def seek_and_resume(
        self, source: TopicPartition, offset: int, topic_id: UUID | None = None
    ) -> None:
        """See `Consumer.seek_and_resume`. Queued for the next poll; not a checkpoint."""
        self._commands.seek_and_resume(source, offset, topic_id)

    def pause(self, source: TopicPartition) -> None:
        """See `Consumer.pause`. Queued for the next poll; not a checkpoint."""
        self._commands.pause(source)

    def resume(self, source: TopicPartition) -> None:
        """See `Consumer.resume`. Queued for the next poll; not a checkpoint."""
        self._commands.resume(source)

    # Beside the poll, on worker threads of their own

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> bool:
        """See `Consumer.commit`. An error is logged, with the offsets.

        A checkpoint. Cancelling waits for the answer, at most `COMMIT_MS`.

        Raises:
            PipelineError: an error that no retry mends.
        """
        request = {
            KafkaPartition(*source): OffsetAndMetadata(offset, metadata, -1)
            for source, (offset, metadata) in offsets.items()
        }
        try:
            await self._calls.run(partial(self._consumer.commit, request, timeout_ms=COMMIT_MS))
        except RebalanceInProgressError:
            return False
        except KafkaError as error:
            raise_if_fatal(error)
            shown = ", ".join(f"{source} {offset}" for source, (offset, _) in offsets.items())
            facts = event("not-committed", partitions=list(offsets), reason=in_words(error))
            self._retried.tell("offsets were not committed", error, of=shown, extra=facts)
            return False
        return True

    async def positions(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """See `Consumer.positions`."""
        return await self._offsets.positions(sources)

    async def try_positions(
        self, sources: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Position]:
        """See `Consumer.try_positions`."""
        return await self._offsets.try_positions(sources)

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.ends`."""
        return await self._offsets.ends(sources)

    async def first_records(self, spans: Spans) -> FirstRecords:
        """See `Consumer.first_records`."""
        return await self._offsets.first_records(spans)

    async def topic_id(self, topic: str) -> UUID:
        """See `Consumer.topic_id`."""
        return await self._offsets.topic_id(topic)

    async def topic_ids(self) -> Mapping[str, UUID | None]:
        """See `Consumer.topic_ids`."""
        return await self._offsets.topic_ids()

    def topic_sizes(self) -> dict[str, int]:
        """How many partitions each topic has, as far as Kafka has told. Not a checkpoint."""
        return self._offsets.topic_sizes()

    async def close(self) -> None:
        """See `Consumer.close`.

        A checkpoint. If cancelled while a poll is still under way, it leaves the consumer open; after
        that, cancelling waits until the consumer is closed.
        """
        self._calls.closing = True
        # The I/O loop may still read from a socket that is closed under it, and logs a traceback.
        logging.getLogger("kafka.net.transport").setLevel(logging.CRITICAL)
        async with self._polling:
            await trio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        """Blocks; on a worker thread, when no poll is under way."""
        self._polls.end()
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_MS)


def _nobody_waits() -> None: ...
