"""One assigned partition: its nursery, its cancel scope, and its life. Its records are `writers`' part.

It lives as long as the assignment: made when the partition is assigned, drained when it is revoked,
cancelled when it is lost. What comes back late belongs to an object that is gone, and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from pipeline.consumer.channels import Channels
from pipeline.consumer.lane_keeper import LaneKeeper
from pipeline.consumer.lanes import Lanes
from pipeline.consumer.offset_tracker import CameBack, OffsetTracker
from pipeline.consumer.partition_context import PartitionContext
from pipeline.consumer.starting_offset import (
    LogChange,
    LogEndsBelow,
    Start,
    starting_offset,
    tell_lost,
)
from pipeline.consumer.writers import Writers
from pipeline.contracts.kafka import LogMoved, Position
from pipeline.contracts.log_events import event
from pipeline.contracts.snapshot import Phase
from pipeline.contracts.store import Claim, Fenced, PartitionStore, ServerChanged
from pipeline.contracts.wish import Pause
from pipeline.records.record import RawBatch, TopicPartition

log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0
"""How long a log may end below what is applied until that is believed: after a change of leaders, or of
topics, brokers tell old news for a moment."""


class PartitionTask:
    """The task tree of one assigned partition.

    Args:
        source: the partition.
        context: what it shares with the others.
        assignment_id: grows with each assignment, so that two of one partition are told apart.
        after: what happened to the log, if this instance had the partition until now.
    """

    def __init__(
        self,
        source: TopicPartition,
        context: PartitionContext,
        assignment_id: int,
        after: LogChange | None = None,
    ) -> None:
        self.source = source
        self.assignment_id = assignment_id
        self.phase = Phase.OPENING
        self.since = trio.current_time()
        """When the phase began, on Trio's clock."""
        self.fenced = False
        self.server_changed = False
        """Whether it was fenced because its database is another one now."""
        self.log_changed: LogChange | None = None
        """Why the partition is to be taken over anew: its log is not the one that was read."""
        self.claim: Claim | None = None
        self.position: Position | None = None
        """Where the log and the group stood when the partition was taken over."""
        self.left = 0
        """Waiting records that a drain dropped, for the next owner to read."""
        self.cut_off = 0
        """Records that were in flight when a drain's deadline passed."""
        self.pause: Pause | None = None
        """The operator's pause that the partition obeys."""
        self.ended = trio.Event()
        self.writers = Writers(
            source, context.consumer, context.make_channels(), context.budget, context.metrics,
            through_endpoint=source.topic == context.ingest_topic, usage=context.usage,
        )  # fmt: skip
        self.lanes: Lanes | None = None
        """What waits in lanes; None before the partition is taken over, and where there are none."""
        self._context = context
        self._after = after
        self.acknowledged = 0
        """Below this offset Kafka has a commit of ours; see `starting_offset.Start`."""
        self._scope = trio.CancelScope()

    @property
    def offsets(self) -> OffsetTracker:
        """Which offsets are applied."""
        return self.writers.offsets

    @property
    def channels(self) -> Channels:
        """The records that wait, or are in flight, by key."""
        return self.writers.channels

    @property
    def buffered(self) -> int:
        """Records held here, in lanes too."""
        return self.writers.buffered + (self.lanes.buffered if self.lanes else 0)

    @property
    def in_flight(self) -> int:
        """How many of them are in transactions."""
        return self.channels.in_flight + (self.lanes.in_flight if self.lanes else 0)

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, trio.current_time()

    async def run(self) -> None:
        """Take over, then apply records until drained or cancelled. Fenced, it ends quietly.

        Raises:
            PipelineError: retrying can't help; the whole program ends.
        """
        try:
            with self._scope:
                await self._work(*await self._open())
        finally:
            self.writers.release()
            self._enter(Phase.ENDED)
            self.ended.set()

    async def _open(self) -> tuple[PartitionStore, OffsetTracker]:
        """Own the partition in the store, learn what is applied, and fetch from there on."""
        context, source = self._context, self.source
        claim, store, position, start = await self._find_start()
        if store.applied.watermark is None and start.offset:
            # From now on the ledger knows where the partition began, whatever commits are lost.
            await context.store.fold([(claim, start.offset)])
        duplicates = context.metrics.duplicates_skipped
        duplicates.labels(source.topic, str(source.partition)).inc(start.skipped)
        self._count_lost(start.lost)
        applied = store.applied.offsets_from(start.offset)
        if context.unfold is not None and position.committed is not None:
            applied |= context.unfold(position.metadata, position.committed)
        self.claim, self.position = claim, position
        if self.phase is Phase.OPENING:
            context.consumer.seek_and_resume(source, start.offset, claim.topic_id)
        self.acknowledged = start.acknowledged
        return store, OffsetTracker(start.offset, applied)

    async def _find_start(self) -> tuple[Claim, PartitionStore, Position, Start]:
        """Own the partition in the store, and reconcile what it knows with what Kafka does."""
        context, source = self._context, self.source
        deadline = trio.current_time() + SETTLE_SECONDS
        while True:
            claim = Claim(context.group, source, await context.topic_ids.get(source.topic))
            store = await context.store.open(claim)
            position = await context.positions.get(source)
            try:
                start = starting_offset(
                    source, store.applied, position, claim.topic_id, self._after, store.lanes
                )
            except LogEndsBelow:
                if trio.current_time() >= deadline:
                    raise
            else:
                return claim, store, position, start
            await trio.sleep(1)

    def _count_lost(self, records: int) -> None:
        lost = self._context.metrics.records_lost
        lost.labels(self.source.topic, str(self.source.partition)).inc(records)

    async def _work(self, store: PartitionStore, offsets: OffsetTracker) -> None:
        if self.phase is not Phase.OPENING:
            return
        self._enter(Phase.RUNNING)
        decode, keeper = self._context.decoder(store.shape), self._keeper(store)
        try:
            async with trio.open_nursery() as nursery:
                if keeper is not None:
                    keeper.start(nursery)
                await self.writers.run(store, decode, offsets, self.acknowledged)
        except* ServerChanged:
            self.fenced = self.server_changed = True
        except* CameBack as group:
            self.log_changed = LogChange(str(_first(group)))
        except* Fenced as group:
            self.fenced = True
            why = str(_first(group))
            facts = event("fenced", source=self.source, offset=offsets.watermark, reason=why)
            log.warning("%s: another instance has taken over: %s", self.source, why, extra=facts)
        finally:
            if keeper is not None:
                keeper.forget()

    def _keeper(self, store: PartitionStore) -> LaneKeeper | None:
        """The lanes as of the take-over: what they answer for is passed over from the first record on."""
        context = self._context
        if context.lanes is None or self.claim is None:
            return None
        self.lanes = Lanes(context, context.lanes, self.writers, self.claim)
        keeper = LaneKeeper(
            self.lanes, self.writers, context, context.lanes, self.claim, store, self.acknowledged
        )
        self.lanes.pause(self.pause is not None)
        return keeper

    def feed(self, batches: Sequence[RawBatch]) -> None:
        """Hand over what was fetched, in offset order. Dropped unless the task runs. No checkpoint.

        Raises:
            PipelineError: it can't be decoded.
        """
        if self.phase is Phase.RUNNING:
            try:
                self.writers.feed(batches)
            except CameBack as error:
                self._give_up(LogChange(str(error)))

    def _give_up(self, change: LogChange) -> None:
        """End at once, to be taken over anew: the log is not the one that was read. No checkpoint."""
        self.log_changed = change
        self._enter(Phase.DRAINING)
        self._scope.cancel()

    async def reposition(self, moved: LogMoved) -> None:
        """Go on where the log goes on, if Kafka has nothing at the offset that is fetched next.

        What retention took is told and counted; records that were fetched before are applied all the
        same. If the log ends below the offset, or was cut, the task ends, to be taken over anew.

        A checkpoint.

        Raises:
            PipelineError: Kafka answers with an error that no retry mends.
        """
        offset = moved.offset
        if self.phase is not Phase.RUNNING or self.claim is None:
            return
        position = await self._context.positions.get(self.source)
        if self.phase is not Phase.RUNNING:
            return
        if offset is None or offset > position.end:
            end = position.end if moved.cut is None else moved.cut
            self._give_up(LogChange(f"the log was cut at offset {end}", cut=moved.cut))
            return
        if offset < position.start:
            tell_lost(self.source, offset, position.start)
            self._count_lost(position.start - offset)
        consumer = self._context.consumer
        consumer.seek_and_resume(self.source, max(offset, position.start), self.claim.topic_id)
        if self.writers.paused:
            consumer.pause(self.source)

    async def replace(self, deadline: float) -> None:
        """End because the topic is another one now: what was read of the former one and waited is lost.

        ``deadline`` is for what is in flight, as in `drain`. A checkpoint; returns when the task has
        ended.
        """
        self.log_changed = LogChange("its topic was deleted and made anew", made_anew=True)
        await self.drain(deadline)
        if lost := self.left + self.cut_off:
            log.error(
                "%s: %d records of the former topic had been read, and were not applied yet: they "
                "are gone with it", self.source, lost,
                extra=event("records-lost", source=self.source, records=lost),
            )  # fmt: skip
            self._count_lost(lost)

    def obey(self, pause: Pause | None) -> None:
        """Start no batch while there is a pause; go on if there is none. Not a checkpoint."""
        self.pause = pause
        self.writers.stand_still(pause is not None)
        if self.lanes is not None:
            self.lanes.pause(pause is not None)

    async def drain(self, deadline: float) -> None:
        """Finish what is in flight, drop what waits, and end; cut off at ``deadline``.

        ``deadline`` is absolute, on Trio's clock. A checkpoint; returns when the task has ended.
        """
        if self.phase is Phase.RUNNING:
            self._enter(Phase.DRAINING)
            self.left = self.writers.close() + (self.lanes.close() if self.lanes else 0)
        if self.phase is Phase.DRAINING:
            with trio.move_on_at(deadline):
                await self.writers.idle()
                if self.lanes is not None:
                    await self.lanes.idle()
            self.cut_off = self.in_flight
        self._scope.cancel()
        await self.ended.wait()

    async def cancel(self) -> None:
        """End at once: whatever is in flight is rolled back, or known to the ledger. A checkpoint."""
        self._enter(Phase.DRAINING)
        self._scope.cancel()
        await self.ended.wait()

    async def retire(self) -> None:
        """End because the database is another one now: whoever watches it takes over anew.

        A checkpoint; returns when the task has ended.
        """
        self.fenced = self.server_changed = True
        await self.cancel()

    def how_it_ended(self) -> str:
        """For people, after `drain`: what was finished, what was cut off, and where it stands."""
        if self.fenced:
            return "fenced by another owner"
        if self.position is None:
            return "given up while it was being taken over"
        what = "drained"
        if self.cut_off:
            what = (
                f"cut off at the deadline with {self.cut_off} records in flight, which the next "
                "owner reads again"
            )
        return f"{what}; watermark {self.offsets.watermark}, {self.left} records had waited"


def _first(group: BaseExceptionGroup) -> BaseException:
    """An error of a group that may hold groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
