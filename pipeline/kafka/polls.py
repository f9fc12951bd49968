"""Polls of kafka-python's consumer that go on while the group rebalances.

``KafkaConsumer.poll`` joins the group first and reads what was fetched then. So a member that waits
for the others, or for its own drain, gets no records of the partitions that stay with it: with two
members and 12 partitions they stood still for 0.6 s of every join, and for as long as a drain takes.

Here the join is a task of its own on kafka-python's I/O loop, where it always runs; the poll that
needs it starts it and does not wait for it. Until it has ended, polls only hand out what was fetched
and fetch on. They do so on the I/O loop too, in steps that the join's own steps can't come between:
a step sees the assignment as it was before a rebalance or as it is after, and a partition that was
given up is in none that comes later. A partition that is new has no position yet, and is not fetched.

Otherwise a poll is kafka-python's own, step by step: between two of its steps is the look at whether
the group is to be joined. A join that has ended in an error ends the next poll in it.

New metadata is a reason to join that kafka-python's leader forgets as soon as it assigns, and not
when it has its own assignment. Where the answer comes while nobody waits for it, between two polls, or
its connection breaks, the join would be over for it: the member has no new partitions, and sends no
heartbeats. So a join has a lasting reason before it starts, as in Kafka's own client (KAFKA-9815), and
one that was left unfinished is taken up again, whoever started it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.future import Future
from kafka.util import Timer

from pipeline.kafka.fetcher import resume_parked_fetches

JOIN_SECONDS = 0.5
"""After so long a join that waits for other members is asked for again, as every poll would do.

The request that is under way stays: kafka-python sends no second one. It bounds how long `end` waits.
"""


class Polls:
    """The polls of one consumer. Its methods run on one worker thread at a time."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._fetch_wait_ms = consumer.config["fetch_max_wait_ms"]
        self._join: Any = None  # a Future while the group is being joined

    def carry_out(self, command: Callable[[], None]) -> None:
        """Run what changes the positions or pauses, where no step of a join comes between."""
        self._consumer._net.run(command)

    def poll(self, seconds: float) -> Mapping[Any, Sequence[Any]]:
        """What was fetched, by partition; waits for something up to ``seconds``.

        Raises:
            KafkaError: of a fetch, or of a join.
        """
        resume_parked_fetches(self._consumer._fetcher)
        timer, limit = Timer(seconds * 1000), self._consumer.config["max_poll_records"]
        # A broker has one fetch at a time. Where partitions are paused, one of the others, all of them
        # empty, would hold up by half a second what is resumed meanwhile.
        wait_ms = min(self._fetch_wait_ms, int(seconds * 1000))
        self._consumer._fetcher.config["fetch_max_wait_ms"] = wait_ms
        while True:
            if self._joining():
                found = self._consumer._net.run(self._fetched, limit, timer.timeout_ms)
            else:
                found = self._consumer._poll_once(timer, limit)
            if found or timer.expired:
                return found or {}

    def end(self) -> None:
        """Wait for a join that is under way, whatever becomes of it; the next poll starts another."""
        join, self._join = self._join, None
        if join is not None:
            with suppress(KafkaError):  # whoever ends the polls has no use for it
                self._consumer._net.run(_outcome, join)

    def _joining(self) -> bool:
        """Whether the group is being joined; starts it where it must be."""
        if self._join is not None and self._join.is_done:
            join, self._join = self._join, None
            if join.failed() and not isinstance(join.exception, KafkaTimeoutError):
                raise join.exception
        coordinator = self._consumer._coordinator
        if self._join is None and (coordinator.need_rejoin() or coordinator.rejoining):
            coordinator.request_rejoin()  # stays until an assignment has been taken over
            self._join = self._consumer._net.call_soon_with_future(
                coordinator.ensure_active_group_async, JOIN_SECONDS * 1000
            )
        return self._join is not None

    async def _fetched(self, limit: int, timeout_ms: float) -> Mapping[Any, Sequence[Any]]:
        """As `Fetcher.fetch_records`, all of it on the I/O loop, and no longer than the join."""
        fetcher = self._consumer._fetcher
        found, more = fetcher.fetched_records(limit)
        if not more:
            await fetcher._send_fetches_async()
        if not found:
            await self._any([self._join, *fetcher._fetch_futures], timeout_ms)
            found, _ = fetcher.fetched_records(limit)
        return found  # type: ignore[no-any-return]

    async def _any(self, futures: Iterable[Any], timeout_ms: float) -> None:
        one_is_done = Future()

        def wake(_: Any) -> None:
            if not one_is_done.is_done:
                one_is_done.success(None)

        for future in futures:
            future.add_both(wake)
        with suppress(KafkaTimeoutError):
            await self._consumer._manager.wait_for(one_is_done, timeout_ms)


async def _outcome(future: Any) -> Any:
    return await future
