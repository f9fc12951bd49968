"""The supervisor: partitions assigned, revoked and lost become tasks started, drained and cancelled.

The listener only records what happened (see `client`); here it is decided and carried out, one event
after another, in the order that Kafka gave them. The rebalance waits for each:

- **assigned**: a task is started for each partition, and the rebalance goes on at once. The task
  takes the partition over by itself; until then the partition is paused.
- **revoked**: every task is drained, all at once, within the drain deadline; then their watermarks
  are committed, then the rebalance goes on. First drained, then committed: the other way round, work
  that was finished in the drain would be done again. And only then fenced, by the new owner.
- **lost**: the membership is gone and others may own the partitions already. Tasks are cancelled,
  nothing is committed. What was in flight is rolled back or fenced, and the ledger tells which.

Each assignment of a partition makes a new task with a number of its own, kept here in ``tasks`` until
the task has ended; work belongs to the task that took it, so nothing of an old assignment can reach
a new one.

A task may also end by itself, fenced: another instance took the partition over. Normally Kafka says
so too, moments later. If it does not, because a former owner woke up late and raised the epoch over
ours, the partition is still ours, and after a pause it is taken over again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count

import trio

from pipeline.consumer.commits import Committable, committable
from pipeline.consumer.partition import PartitionTask
from pipeline.consumer.partition_context import PartitionContext
from pipeline.consumer.pauses import Pauses
from pipeline.consumer.starting_offset import LogChange
from pipeline.contracts.kafka import AssignmentEvent, Change, Consumer, LogMoved, discard_events
from pipeline.contracts.log_events import event
from pipeline.contracts.snapshot import Phase
from pipeline.contracts.store import Store
from pipeline.observe.metrics import Metrics
from pipeline.records.record import TopicPartition

log = logging.getLogger(__name__)

COMMIT_SECONDS = 1.0
"""How often watermarks are committed."""

FOLD_SECONDS = 5.0
"""How long the folding of the ledger may hold up the next commit."""

LEASE_SECONDS = 5.0
"""How often idle partitions are asked whether their database is still the same."""

RETAKE_SECONDS = 3.0
"""How long a fenced partition waits for Kafka to say that it is someone else's."""


class Supervisor:
    """Owner of all partition tasks of this instance.

    Args:
        consumer: Kafka.
        store: Postgres.
        context: what the partition tasks share.
        metrics: the counters of rebalances, drains and fenced partitions.
        drain_deadline: seconds that transactions may take to finish when partitions are given up.
        describe: the text to commit with a partition's watermark; None: an empty one.
        on_joined: called each time the group gives this instance an assignment; must not block.
    """

    def __init__(
        self,
        consumer: Consumer,
        store: Store,
        context: PartitionContext,
        metrics: Metrics,
        *,
        drain_deadline: float,
        describe: Callable[[PartitionTask], str] | None = None,
        on_joined: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.tasks: dict[TopicPartition, PartitionTask] = {}
        self._on_joined = tuple(on_joined)
        self._consumer = consumer
        self._store = store
        self._context = context
        self._metrics = metrics
        self.drain_seconds = drain_deadline
        """May be set while this runs; a drain under way goes by what it was."""
        self._describe = describe or (lambda _: "")
        self._pauses = Pauses(context.wishes, context.shard_of, self.tasks.values)
        self._numbers = count(1)
        self._committed: dict[TopicPartition, Committable] = {}
        self._sent: dict[TopicPartition, int] = {}  # what Kafka may have, answered or not
        self._committing = trio.Lock()
        self._leaving: set[PartitionTask] = set()  # those whose partitions are given up
        self._stopping = False
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Consume until `stop`, or until a task fails. The nursery of everything below."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._polls)
            nursery.start_soon(self._commits)
            nursery.start_soon(self._watch_leases)
            nursery.start_soon(self._pauses.run)
            try:
                async for event in self._consumer.events:
                    if isinstance(event, AssignmentEvent):
                        await self._carry_out(event)
                    else:
                        self._reposition(event)
            finally:
                # The consumer's close would wait for events that nobody carries out any more.
                discard_events(self._consumer.events)

    async def stop(self) -> None:
        """Drain everything, commit, leave the group. Returns when all of it is done.

        Bounded by the drain deadline, and some seconds for Kafka to answer.
        """
        self._stopping = True
        await self._drain(list(self.tasks))
        await self._consumer.close()
        assert self._nursery is not None, "stop() goes with a running run()"
        self._nursery.cancel_scope.cancel()

    # Events

    async def _carry_out(self, happened: AssignmentEvent) -> None:
        names = ", ".join(map(str, happened.partitions))
        if names:
            change = happened.change.value
            facts = event(change, partitions=happened.partitions)
            log.info("%s: %s", change, names, extra=facts)
            self._metrics.rebalances.inc()
        else:
            log.info("joined the group: no partitions for this instance so far")
        try:
            match happened.change:
                case Change.ASSIGNED:
                    for tell in self._on_joined:
                        tell()
                    for source in happened.partitions:
                        self._start(source)
                case Change.REVOKED:
                    await self._drain(happened.partitions)
                case Change.LOST:
                    await self._abandon(happened.partitions)
        finally:
            happened.done()

    def _reposition(self, moved: LogMoved) -> None:
        """Let a partition go on where its log goes on; the rebalance does not wait for this."""
        task = self.tasks.get(moved.source)
        if task is not None and self._nursery is not None:
            self._nursery.start_soon(task.reposition, moved)

    async def replace(self, tasks: Iterable[PartitionTask]) -> None:
        """Take partitions over anew whose topic is another one now. A checkpoint.

        Returns when what was in flight of the former topic is finished, within the drain deadline.
        """
        deadline = trio.current_time() + self.drain_seconds
        async with trio.open_nursery() as nursery:
            for task in tasks:
                if task.phase is Phase.RUNNING:
                    self._consumer.pause(task.source)
                    nursery.start_soon(task.replace, deadline)

    def _start(self, source: TopicPartition, after: LogChange | None = None) -> None:
        if self._stopping or self._nursery is None:
            return
        task = PartitionTask(source, self._context, next(self._numbers), after)
        self.tasks[source] = task
        self._pauses.apply([task])
        self._nursery.start_soon(self._supervise, task, name=f"partition {source}")

    async def _supervise(self, task: PartitionTask) -> None:
        await task.run()
        if task.log_changed is not None:
            labels = (task.source.topic, str(task.source.partition))
            self._metrics.log_changes.labels(*labels).inc()
            self._sent.pop(task.source, None)  # it is an offset of another log
            self._take_over_anew(task, task.log_changed.why)
            return
        if task.server_changed:
            self._take_over_anew(task, "its database was restarted, or is another one now")
            return
        if not task.fenced:
            return
        self._metrics.fenced.labels(task.source.topic, str(task.source.partition)).inc()
        self._consumer.pause(task.source)
        await trio.sleep(RETAKE_SECONDS)
        if self._is_ours(task):
            why = "still assigned to this instance"
            facts = event("taken-over-anew", source=task.source, reason=why)
            log.warning("%s is %s: taking it over again", task.source, why, extra=facts)
            self._start(task.source)

    def _is_ours(self, task: PartitionTask) -> bool:
        """Whether a task that has ended is to be followed by another: not if its partition is given up."""
        current = self.tasks.get(task.source) is task
        return current and task not in self._leaving and not self._stopping

    def _take_over_anew(self, task: PartitionTask, why: str) -> None:
        """The database, or the log, is another one now: it alone knows what is applied, or to come."""
        if self._is_ours(task):
            facts = event("taken-over-anew", source=task.source, reason=why)
            log.warning("%s: %s: taking it over anew", task.source, why, extra=facts)
            self._consumer.pause(task.source)
            self._start(task.source, task.log_changed)

    async def _watch_leases(self) -> None:
        """Find partitions whose database has changed, also if they have nothing to write."""
        while True:
            await trio.sleep(LEASE_SECONDS)
            by_claim = {task.claim: task for task in self.tasks.values() if task.claim is not None}
            for claim in await self._store.voided(list(by_claim)):
                task = by_claim[claim]
                if task.phase is Phase.RUNNING and not task.fenced:
                    await task.retire()

    async def _drain(self, sources: Iterable[TopicPartition]) -> None:
        """Drain the tasks of partitions together, commit what they have done, forget them."""
        tasks = [self.tasks[source] for source in sources if source in self.tasks]
        self._leaving.update(
            tasks
        )  # one that finds its database changed meanwhile is not begun anew
        started = trio.current_time()
        deadline = started + self.drain_seconds
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task.drain, deadline)
        seconds = trio.current_time() - started
        self._metrics.drain_seconds.observe(seconds)
        await self._commit(tasks)
        for task in tasks:
            how = task.how_it_ended()
            facts = event(
                "ended", source=task.source, offset=task.offsets.watermark, records=task.cut_off,
                milliseconds=seconds * 1000, reason=how,
            )  # fmt: skip
            log.info("%s: %s; %s", task.source, how, self._commit_of(task), extra=facts)
        self._forget(tasks)
        self._leaving.difference_update(tasks)

    def _commit_of(self, task: PartitionTask) -> str:
        """What became of a drained partition's last watermark, for people."""
        if task.claim is None or task.fenced:
            return "nothing to commit"
        last = self._committed.get(task.source)
        if last is not None and (last.assignment_id, last.watermark) == (
            task.assignment_id, task.offsets.watermark
        ):  # fmt: skip
            return "committed"
        return "Kafka did not take the commit: the next owner goes by the ledger"

    async def _abandon(self, sources: Sequence[TopicPartition]) -> None:
        tasks = [self.tasks[source] for source in sources if source in self.tasks]
        self._forget(tasks)
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task.cancel)

    def _forget(self, tasks: Iterable[PartitionTask]) -> None:
        for task in tasks:
            if self.tasks.get(task.source) is task:
                del self.tasks[task.source]
                self._committed.pop(task.source, None)
                self._sent.pop(task.source, None)
                self._metrics.forget_partition(task.source.topic, str(task.source.partition))

    # Records in

    async def _polls(self) -> None:
        while True:
            for source, batches in (await self._consumer.poll()).items():
                task = self.tasks.get(source)
                if task is not None:
                    task.feed(batches)

    # Offsets out

    async def _commits(self) -> None:
        while True:
            await trio.sleep(COMMIT_SECONDS)
            await self._commit(self.tasks.values(), fold=True)

    async def _commit(self, tasks: Collection[PartitionTask], *, fold: bool = False) -> None:
        """Commit the watermarks that have moved to Kafka.

        With ``fold`` the ledger is folded below them afterwards. In this order, so that the ledger's
        folded watermark is never above Kafka's: if it is, the group's offsets were set back from
        outside. A hand-over does not wait for the folding: it only saves space, and the next owner,
        or the next second, folds as well.
        """
        async with self._committing:  # one after another: an older offset never follows a newer
            moved = self._moved(tasks)
            offsets = {each.claim.source: (each.watermark, each.metadata) for each in moved}
            self._sent.update({each.claim.source: each.watermark for each in moved})
            if not moved or not await self._consumer.commit(offsets):
                return
            self._committed.update({each.claim.source: each for each in moved})
        if fold:
            with trio.move_on_after(
                FOLD_SECONDS
            ):  # a slow shard must not hold up the others' commits
                await self._store.fold([(each.claim, each.watermark) for each in moved])

    def _moved(self, tasks: Iterable[PartitionTask]) -> list[Committable]:
        """What is to be committed: of tasks that are still this instance's, what Kafka has not got.

        A partition that was taken over anew may begin below what was on its way to Kafka for its former
        task; it commits nothing until it has come as far.
        """
        moved = []
        for task in tasks:
            if self.tasks.get(task.source) is not task:
                continue  # lost while its commit waited: the offset is another owner's to commit
            found = committable(task, self._describe)
            if found is None or found.watermark < self._sent.get(task.source, 0):
                continue
            if self._committed.get(task.source) != found:
                moved.append(found)
        return moved
