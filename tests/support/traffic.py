"""What goes into a topic, and how far a group has come with it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

import attrs
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from tests.support import accounts
from tests.support.instance import PATIENCE


@attrs.define
class Group:
    """A consumer group on one topic, seen from outside: it never joins."""

    bootstrap: str
    topic: str
    group: str
    _consumer: Any = attrs.field(init=False, default=None)

    def partitions(self) -> list[Any]:
        numbers = self._client().partitions_for_topic(self.topic) or ()
        return [TopicPartition(self.topic, number) for number in sorted(numbers)]

    def committed(self) -> dict[int, int]:
        """Partition → committed offset, 0 where there is none. A broker that is away is waited for.

        Raises KafkaError where it stays away.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return {
                    p.partition: self._client().committed(p, timeout_ms=5000) or 0
                    for p in self.partitions()
                }
            except KafkaError:
                if time.monotonic() > deadline:
                    raise

    def ends(self) -> dict[int, int]:
        """Partition → the offset after its last record."""
        found = self._client().end_offsets(self.partitions(), timeout_ms=5000)
        return {partition.partition: end for partition, end in found.items()}

    def caught_up(self, partitions: Iterable[int] | None = None) -> bool:
        """Whether everything on these partitions (None: on all) is committed."""
        try:
            committed, ends = self.committed(), self.ends()
        except KafkaError:
            return False
        return bool(ends) and all(committed[p] == ends[p] for p in partitions or ends)

    def members(self) -> int:
        """How many members the group has now."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            return len(admin.describe_groups([self.group])[self.group]["members"])
        finally:
            admin.close()

    def close(self) -> None:
        """Disconnect; who asks again connects anew, and sees partitions that were added."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _client(self) -> Any:
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False
            )
        return self._consumer


class Load:
    """A producer on a thread of its own, so many messages a second until it is stopped.

    A broker that is away is waited for. What is on the topic in the end is what counts.
    """

    def __init__(
        self, bootstrap: str, topic: str, messages: Iterable[accounts.Message], per_second: int
    ) -> None:
        self.sent = 0
        self._bootstrap = bootstrap
        self._topic = topic
        self._messages = messages
        self._per_second = per_second
        self._stop = Event()
        self._thread = Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and return when the broker has what was sent."""
        self._stop.set()
        self._thread.join()

    def reached(self, count: int) -> bool:
        """Whether so many messages were sent."""
        return self.sent >= count

    def _run(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap, linger_ms=5, max_block_ms=120_000
        )
        portion = max(1, self._per_second // 50)
        for key, value in self._messages:
            if self.sent % portion == 0 and self._stop.wait(portion / self._per_second):
                break
            with suppress(KafkaError):
                producer.send(self._topic, key=key, value=value)
            self.sent += 1
        with suppress(KafkaError):
            producer.flush(timeout=PATIENCE)
        producer.close(timeout=5)
