"""Seeks, pauses and resumes, which wait for the next poll, and what is known of their partitions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from uuid import UUID

from kafka import KafkaConsumer
from kafka.errors import IllegalStateError
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.records.record import TopicPartition

log = logging.getLogger(__name__)

Pin = Callable[[KafkaPartition, UUID], None]


class Commands:
    """The commands of one consumer. In Trio, but for what `take` returns; no method is a checkpoint.

    Args:
        consumer: kafka-python's, whose partitions are sought, paused and resumed.
        pin: lets a partition be fetched of one topic only (see `PinnedTopics`). On the I/O thread.
    """

    def __init__(self, consumer: KafkaConsumer, pin: Pin) -> None:
        self._consumer = consumer
        self._pin = pin
        self._queue: list[Callable[[], None]] = []
        self.paused: set[TopicPartition] = set()
        self.stale: set[TopicPartition] = set()
        """What a poll under way has of them is dropped: it was fetched before a seek that waits, or
        before they were given up."""
        self._moved: set[TopicPartition] = set()

    def take(self) -> Callable[[], None] | None:
        """What the next poll must carry out, on the I/O thread; None if that is nothing."""
        commands, self._queue = self._queue, []
        self.stale.clear()
        return partial(_carry_out, commands) if commands else None

    def assigned(self, sources: Collection[TopicPartition]) -> None:
        """Take note that partitions were assigned, and are paused."""
        self.given_up(sources)
        self.paused.update(sources)

    def given_up(self, sources: Collection[TopicPartition]) -> None:
        """Take note that partitions were revoked or lost."""
        self.paused.difference_update(sources)
        self.stale.update(sources)
        self._moved.difference_update(sources)

    def seek_and_resume(self, source: TopicPartition, offset: int, topic_id: UUID | None) -> None:
        """See `Consumer.seek_and_resume`."""
        self._queue.append(partial(self._seek, source, offset, topic_id))
        self.stale.add(source)
        self._moved.discard(source)
        self.resume(source)

    def pause(self, source: TopicPartition) -> None:
        """See `Consumer.pause`."""
        self.paused.add(source)
        self._queue.append(partial(self._consumer.pause, KafkaPartition(*source)))

    def resume(self, source: TopicPartition) -> None:
        """See `Consumer.resume`."""
        if source in self._moved:
            return  # there is nothing to fetch until its task seeks
        self.paused.discard(source)
        self._queue.append(partial(self._consumer.resume, KafkaPartition(*source)))

    def pause_until_sought(self, source: TopicPartition) -> bool:
        """Pause a partition whose log moved; False if that is known, or a seek waits."""
        if source in self.stale or source in self._moved:
            return False
        self._moved.add(source)
        self.pause(source)
        return True

    def _seek(self, source: TopicPartition, offset: int, topic_id: UUID | None) -> None:
        """Seek if the partition is still assigned. On the I/O thread."""
        partition = KafkaPartition(*source)
        if partition not in self._consumer.assignment():
            raise IllegalStateError(f"{source} is not assigned")
        if topic_id is not None:
            self._pin(partition, topic_id)
        self._consumer.seek(partition, offset)


def _carry_out(commands: Collection[Callable[[], None]]) -> None:
    """Run commands in the order given. On the I/O thread (see `Polls.carry_out`)."""
    for command in commands:
        try:
            command()
        except (IllegalStateError, KeyError):
            # The partition has been given up since the command was queued.
            log.debug("a command came too late for its partition", exc_info=True)
