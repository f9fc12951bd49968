"""One assigned partition: its nursery, its cancel scope, and its life. Its records are `writers`' part.

It lives as long as the assignment: made when the partition is assigned, drained when it is revoked,
cancelled when it is lost. What comes back late belongs to an object that is gone, and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from uuid import UUID

import attrs
import trio

from pipeline.consumer.buffer_budget import BufferBudget
from pipeline.consumer.channels import Channels
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.consumer.request_batching import RequestBatcher
from pipeline.consumer.starting_offset import starting_offset
from pipeline.consumer.writers import Writers
from pipeline.contracts.kafka import Consumer, Position
from pipeline.contracts.snapshot import Phase
from pipeline.contracts.store import Claim, Fenced, PartitionStore, ServerChanged, Store
from pipeline.contracts.wish import Pause
from pipeline.contracts.wishes import Wishes
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import Decoder
from pipeline.records.record import RawBatch, TopicPartition
from pipeline.records.rows import Shape

log = logging.getLogger(__name__)


@attrs.frozen
class PartitionContext:
    """What all partition tasks share."""

    consumer: Consumer
    store: Store
    group: str
    decoder: Callable[[Shape | None], Decoder]
    make_channels: Callable[[], Channels]
    metrics: Metrics
    budget: BufferBudget
    wishes: Wishes = attrs.field(factory=Wishes)
    """What operators wish now: holds and pauses."""
    shard_of: Callable[[int], str] = lambda _: ""
    """The name of the shard that a partition writes to."""
    unfold: Callable[[str, int], set[int]] | None = None
    """Committed metadata and its offset → offsets applied above it; None if the store knows them."""
    positions: RequestBatcher[TopicPartition, Position] = attrs.field(init=False)
    """Where partitions stand: those that are assigned at once are asked for together."""
    topic_ids: RequestBatcher[str, UUID] = attrs.field(init=False)

    @positions.default
    def _batch_positions(self) -> RequestBatcher[TopicPartition, Position]:
        return RequestBatcher(self.consumer.positions)

    @topic_ids.default
    def _batch_topic_ids(self) -> RequestBatcher[str, UUID]:
        async def ask(topics: Collection[str]) -> dict[str, UUID]:
            return {topic: await self.consumer.topic_id(topic) for topic in topics}

        return RequestBatcher(ask)


class PartitionTask:
    """The task tree of one assigned partition.

    Args:
        source: the partition.
        context: what it shares with the others.
        assignment_id: grows with each assignment, so that two of one partition are told apart.
    """

    def __init__(
        self, source: TopicPartition, context: PartitionContext, assignment_id: int
    ) -> None:
        self.source = source
        self.assignment_id = assignment_id
        self.phase = Phase.OPENING
        self.since = trio.current_time()
        """When the phase began, on Trio's clock."""
        self.fenced = False
        self.server_changed = False
        """Whether it was fenced because its database is another one now."""
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
            source, context.consumer, context.make_channels(), context.budget, context.metrics
        )
        self._context = context
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
        claim = Claim(context.group, source, await context.topic_ids.get(source.topic))
        store = await context.store.open(claim)
        position = await context.positions.get(source)
        start = starting_offset(source, store.applied, position)
        if store.applied.watermark is None and start.offset:
            # From now on the ledger knows where the partition began, whatever commits are lost.
            await context.store.fold([(claim, start.offset)])
        duplicates = context.metrics.duplicates_skipped
        duplicates.labels(source.topic, str(source.partition)).inc(start.skipped)
        applied = store.applied.offsets_from(start.offset or 0)
        if context.unfold is not None and position.committed is not None:
            applied |= context.unfold(position.metadata, position.committed)
        self.claim, self.position = claim, position
        if self.phase is Phase.OPENING:
            context.consumer.seek_and_resume(source, start.offset)
        self.acknowledged = start.acknowledged
        return store, OffsetTracker(start.offset, applied)

    async def _work(self, store: PartitionStore, offsets: OffsetTracker) -> None:
        if self.phase is not Phase.OPENING:
            return
        self._enter(Phase.RUNNING)
        decode = self._context.decoder(store.shape)
        try:
            await self.writers.run(store, decode, offsets, self.acknowledged)
        except* ServerChanged:
            self.fenced = self.server_changed = True
        except* Fenced as group:
            self.fenced = True
            log.warning("%s: another instance has taken over: %s", self.source, group.exceptions[0])

    def feed(self, batches: Sequence[RawBatch]) -> None:
        """Hand over what was fetched, in offset order. Dropped unless the task runs. No checkpoint.

        Raises:
            PipelineError: it can't be decoded.
        """
        if self.phase is Phase.RUNNING:
            self.writers.feed(batches)

    def obey(self, pause: Pause | None) -> None:
        """Start no batch while there is a pause; go on if there is none. Not a checkpoint."""
        self.pause = pause
        self.writers.stand_still(pause is not None)

    async def drain(self, deadline: float) -> None:
        """Finish what is in flight, drop what waits, and end; cut off at ``deadline``.

        ``deadline`` is absolute, on Trio's clock. A checkpoint; returns when the task has ended.
        """
        if self.phase is Phase.RUNNING:
            self._enter(Phase.DRAINING)
            self.left = self.writers.close()
        if self.phase is Phase.DRAINING:
            with trio.move_on_at(deadline):
                await self.writers.idle()
            self.cut_off = self.channels.in_flight
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
