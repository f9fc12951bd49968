"""Polls of kafka-python's consumer that go on while the group rebalances.

``KafkaConsumer.poll`` first joins the group, then reads what was fetched. So a member that waits for
the others, or for its own drain, gets no records of the partitions that stay with it: with two members
and 12 partitions they stood still for 0.6 s of every join, and for as long as a drain takes.

Here the join is a task of its own on kafka-python's I/O loop, where it always runs. The poll that needs
a join starts it and does not wait for it. Until it has ended, polls only hand out what was fetched and
fetch on. They do so on the I/O loop too, in steps that the join's own steps can't come between: a step
sees the assignment as it was before a rebalance or as it is after, and a partition that was given up is
in none that comes later. A partition that is new has no position yet, and is not fetched.

Otherwise a poll is kafka-python's own, step by step, and each step is preceded by a look at whether the
group is to be joined. A reason to join may come between that look and the step, which then would join by
itself and wait for it, drain and all. So the step's own join is put out of use: it says that its time is
over, and the next look starts the join. If a join ends in an error, the next poll raises it.

New metadata is a reason to join that kafka-python's leader forgets as soon as it assigns, before it has
its own assignment. If the answer comes while nobody waits for it, between two polls, or if its
connection breaks, the join is over for the leader: it has no new partitions, and sends no heartbeats.
So a join gets a lasting reason before it starts, as in Kafka's own client (KAFKA-9815), and one that
was left unfinished is taken up again, whoever started it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from kafka import KafkaConsumer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.future import Future
from kafka.structs import TopicPartition as KafkaPartition
from kafka.util import Timer

from pipeline.kafka.fetcher import resume_parked_fetches
from pipeline.kafka.membership import Membership
from pipeline.records.record import RawBatch, TopicPartition

JOIN_SECONDS = 0.5
"""A join that still waits for other members is asked for again after this time, as `poll` would.

The request that is under way stays: kafka-python sends no second one. It bounds how long `end` waits.
"""


class Polls:
    """The polls of one consumer.

    The public methods block, and run on one worker thread at a time; they are not for the I/O thread.
    """

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._fetch_wait_ms: int = consumer.config["fetch_max_wait_ms"]
        self._join: Future | None = None  # while the group is being joined
        self.membership = Membership(consumer._coordinator)
        consumer._coordinator.ensure_active_group = _no_time_to_join  # type: ignore[method-assign]

    def carry_out(self, command: Callable[[], None]) -> None:
        """Run what changes positions or pauses on the I/O loop, where no step of a join interferes."""
        self._consumer._net.run(command)

    def poll(self, seconds: float) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        """Return what was fetched, per partition; wait for something up to ``seconds``.

        kafka-python's partitions are equal to ours, and what it takes for records are `RawBatch`es.

        Raises:
            KafkaError: a fetch failed, or a join; or the membership has ended for good.
        """
        self.membership.raise_if_ended()
        resume_parked_fetches(self._consumer._fetcher)
        timer, limit = Timer(seconds * 1000), self._consumer.config["max_poll_records"]
        # A broker takes one fetch at a time. If partitions are paused, a fetch of the others, all of
        # them empty, would hold up by half a second what is resumed meanwhile.
        wait_ms = min(self._fetch_wait_ms, int(seconds * 1000))
        self._consumer._fetcher.config["fetch_max_wait_ms"] = wait_ms
        while True:
            join = self._join_under_way()
            if join is not None:
                found = self._consumer._net.run(self._fetched, join, limit, timer.timeout_ms)
            else:
                found = self._consumer._poll_once(timer, limit)
            if found or timer.expired:
                return cast(Mapping[TopicPartition, Sequence[RawBatch]], found or {})

    def end(self) -> None:
        """Wait for a join that is under way, whatever becomes of it; the next poll starts another."""
        join, self._join = self._join, None
        if join is not None:
            with suppress(KafkaError):  # whoever ends the polls has no use for it
                self._consumer._net.run(_outcome, join)

    def _join_under_way(self) -> Future | None:
        """Return the join that is under way, started here if there is a reason to join."""
        if self._join is not None and self._join.is_done:
            join, self._join = self._join, None
            error = join.exception
            if error is not None and not isinstance(error, KafkaTimeoutError):
                raise error
            if join.value:
                self.membership.joined = True
        coordinator = self._consumer._coordinator
        if self._join is None and (coordinator.need_rejoin() or coordinator.rejoining):
            coordinator.request_rejoin()  # stays until an assignment has been taken over
            self._join = self._consumer._net.call_soon_with_future(
                coordinator.ensure_active_group_async, JOIN_SECONDS * 1000
            )
        return self._join

    async def _fetched(
        self, join: Future, limit: int, timeout_ms: float
    ) -> Mapping[KafkaPartition, Sequence[Any]]:
        """Like `Fetcher.fetch_records`, but all of it on the I/O loop, and no longer than the join."""
        fetcher = self._consumer._fetcher
        found, more = fetcher.fetched_records(limit)
        if not more:
            await fetcher._send_fetches_async()
        if not found:
            await self._any([join, *fetcher._fetch_futures], timeout_ms)
            found, _ = fetcher.fetched_records(limit)
        return found

    async def _any(self, futures: Iterable[Future], timeout_ms: float) -> None:
        """Wait until one of the futures is done, or the time is over. On the I/O loop."""
        one_is_done = Future()

        def wake(_: object) -> None:
            if not one_is_done.is_done:
                one_is_done.success(None)

        for future in futures:
            future.add_both(wake)
        with suppress(KafkaTimeoutError):
            await self._consumer._manager.wait_for(one_is_done, timeout_ms)


def _no_time_to_join(timeout_ms: float | None = None) -> bool:
    """In the place of `ConsumerCoordinator.ensure_active_group`: the group was not joined in time."""
    del timeout_ms
    return False


async def _outcome(future: Future) -> Any:
    return await future
