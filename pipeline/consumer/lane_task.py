"""A lane at work: the partition is read once more, and what the lane answers for is applied.

It is a way through the partition like the main one, with a claim, a tracker and a writer of its own. In
the place of the polls it reads by itself, never further than the main way has decoded: so what a lane
has read, the main way has passed over. In the place of Kafka's commit, its own ledger is folded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import attrs
import trio

from pipeline.consumer.channels import Matches
from pipeline.consumer.holds import STOPPING
from pipeline.consumer.lane_names import lane_fields, lane_name
from pipeline.consumer.lane_retries import LaneRetries
from pipeline.consumer.lane_store import LaneStore
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.consumer.partition_context import LaneContext, PartitionContext
from pipeline.consumer.valve import Cut, Valve
from pipeline.consumer.waiting_count import WaitingCount
from pipeline.consumer.writers import Writers
from pipeline.contracts.kafka import Fetched
from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.log_events import event
from pipeline.contracts.rule import Rule
from pipeline.contracts.setback import Setback
from pipeline.contracts.snapshot import age_of
from pipeline.contracts.store import Claim
from pipeline.contracts.wish import Hold, HoldState, Ruling
from pipeline.records.record import Record

log = logging.getLogger(__name__)

NEAR = 2000
"""Offsets that a lane may be behind when the main way waits for it: a read fetches as many."""

AGAIN_SECONDS = 0.1
"""How long a lane waits before it asks for the same once more."""


class Around(Protocol):
    """What a lane asks of the partition around it."""

    @property
    def position(self) -> int:
        """Up to where the main way has decoded."""

    async def moved(self, position: int) -> None:
        """Wait until the main way has decoded further than a position. A checkpoint."""

    async def read(self, offset: int) -> Fetched:
        """Read the partition from an offset on; see `LaneRecords.read`."""

    def lane_of(self, record: Record) -> Lane | None:
        """Return the lane that answers for a record."""

    def matches(self, rule: Rule) -> Matches:
        """Return whether a record is a rule's, as a function."""

    async def clear(self, task: LaneTask) -> None:
        """Wait until nobody holds what must be applied before the lane's records. A checkpoint."""

    def met(self, task: LaneTask, record: Record) -> None:
        """The lane has taken in a record: if an operator's hold lets it wait, the lane is told."""

    def rulings(self) -> Sequence[Ruling]:
        """Return what operators have said of records of the partition that failed."""

    def wake(self) -> None:
        """Something has changed that the keeper is to see."""

    def lost(self, task: LaneTask, start: int, end: int) -> None:
        """Kafka deleted what the lane had still to read, from one offset up to another."""


class LaneTask:
    """A lane that is open.

    Args:
        lane: what its row says.
        main: the claim on the partition.
        context: what partitions share.
        around: the partition.
        shared: what lanes share.
    """

    def __init__(
        self,
        lane: Lane,
        main: Claim,
        context: PartitionContext,
        around: Around,
        shared: LaneContext,
    ) -> None:
        self.lane = lane
        self.claim = attrs.evolve(main, lane=lane.number)
        self.read_to: int | None = None
        """Up to where it has read; None before it is taken over."""
        self._applied_to = 0  # of what a former owner applied
        self.begun = False
        """Whether it reads: nothing waits elsewhere that must be applied before."""
        self.hold: Hold | None = None
        """The operator's hold that it obeys."""
        self.met: set[str] = set()
        """The ids of holds, of other rules than the lane's, of which it has records."""
        self.paused = False
        self.closed = False
        """Whether a drain has dropped what waited: then nothing says any more that all is applied."""
        self.count = WaitingCount()
        self._dropped = 0  # when the last wish to drop the first record, now carried out, was made
        self._context = context
        self._around = around
        self._details = shared.details
        self._valve = Valve()
        self._scope = trio.CancelScope()
        self._store: LaneStore | None = None
        self.writers = Writers(
            main.source, self._valve, context.make_channels(), context.budget, context.metrics,
            through_endpoint=main.source.topic == context.ingest_topic, usage=context.usage,
        )  # fmt: skip
        self.writers.intake.sieve = self._sieve
        self.writers.on_setback = self._take_back
        self.retries = LaneRetries(lane, main.source, around.rulings, shared, self._retries_changed)

    async def run(self) -> None:
        """Take the lane over, wait for its turn, work through it until `end`.

        Raises:
            As `PartitionStore.apply`, perhaps in exception groups.
        """
        with self._scope:
            try:
                await self._work()
            finally:
                self.writers.release()

    async def _work(self) -> None:
        store = await self._context.store.open(self.claim)
        start = max(self.lane.from_offset, store.applied.watermark or 0)
        self.read_to = start
        self._applied_to = max((end for _, end in store.applied.above), default=0)
        self.count.begin(start, self._around.position)
        await self._around.clear(self)
        self.begun = True
        self._store = LaneStore(
            store, lambda: self.hold, self._around.matches, self._dropped_first, self.retries
        )
        offsets = OffsetTracker(start, store.applied.offsets_from(start))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            nursery.start_soon(self.retries.run)
            await self.writers.run(self._store, self._context.decoder(store.shape), offsets)

    def close(self) -> int:
        """Start no batch any more; return how many waiting records were dropped. No checkpoint."""
        self.closed = True
        return self.writers.close()

    def end(self) -> None:
        """The lane is closed, and all of it applied. Not a checkpoint."""
        if self._store is not None and self._store.skipped:
            source, skipped = self.claim.source, self._store.skipped
            fields = lane_fields(source, self.lane, details=self._details)
            log.warning(
                "%s: %d records of %s were skipped for good, as an operator wished",
                source, skipped, lane_name(self.lane, details=self._details),
                extra=event("dropped", **fields, records=skipped),
            )  # fmt: skip
        self._scope.cancel()

    # Records in

    async def _read(self) -> None:
        """Read what the main way has passed over, for as long as there is room."""
        while True:
            await self._valve.opened()
            assert self.read_to is not None, "it was taken over"
            bound = self._around.position
            if self.read_to >= bound:
                await self._around.moved(self.read_to)
                continue
            fetched = await self._around.read(self.read_to)
            if fetched.log_start > self.read_to:
                self._around.lost(self, self.read_to, min(fetched.log_start, bound))
            if not self._take(fetched, bound):
                await trio.sleep(AGAIN_SECONDS)

    def _take(self, fetched: Fetched, bound: int) -> bool:
        """Take in what lies below ``bound``; whether there was anything, or nothing will ever be."""
        start = self.read_to or 0
        self.read_to = max(start, min(fetched.next_offset, bound))
        raws = [
            raw
            for batch in fetched.batches
            for raw in batch.records()
            if start <= raw.offset < bound
        ]
        if raws:
            self.writers.feed([Cut(raws)])
        return self.read_to > start

    def _sieve(self, records: list[Record]) -> tuple[list[Record], list[Record]]:
        """Keep what the lane answers for; all else is done, as far as the lane is concerned."""
        mine, others = [], []
        for record in records:
            lane = self._around.lane_of(record)
            if lane is not None and lane.number == self.lane.number:
                mine.append(record)
                self._around.met(self, record)
            else:
                others.append(record)
        self.count.took(mine)
        return mine, others

    # What it is to do. No checkpoints.

    def obey(self, hold: Hold | None, *, paused: bool) -> None:
        """Work, stand still, or give records up, as an operator wishes."""
        self.hold, self.paused = hold, paused
        # A hold that does not stop the lane gives up what waits there, also what has failed.
        waits = self.retries.waiting and self.hold is None
        self.writers.stand_still(paused or self.holding or waits)

    def _take_back(self, setback: Setback) -> None:
        self.writers.channels.put_back(setback.records)
        self.retries.set_back(setback)

    def _retries_changed(self) -> None:
        self.obey(self.hold, paused=self.paused)
        self._around.wake()

    @property
    def holding(self) -> bool:
        """Whether the records wait because an operator wishes so."""
        if self.hold is None or self.hold.state is HoldState.DROPPING:
            return False
        return self.hold.state is HoldState.HOLDING or self.hold.changed <= self._dropped

    @property
    def stopped(self) -> bool:
        """Whether an operator wishes that records wait, perhaps all but the first."""
        return self.hold is not None and self.hold.state in STOPPING

    def owe_nothing(self) -> bool:
        """Take a wish to drop the first record for carried out; whether there was one that was not.

        So it is where nothing waits that was there when it was wished: in a lane that is new, or has caught
        up. And in one of a former owner, where it can't be known: what was not given up still can be, and
        what was can't be taken back.
        """
        if not self.stopped or self.holding or self.hold is None:
            return False
        self._dropped_first(self.hold)
        return True

    def _dropped_first(self, hold: Hold) -> None:
        self._dropped = max(self._dropped, hold.changed)
        self.obey(self.hold, paused=self.paused)

    # Where it stands. No checkpoints.

    @property
    def reached(self) -> int | None:
        """Above all that it has read or applied, a former owner too; None before it is taken over."""
        return None if self.read_to is None else max(self.read_to, self._applied_to)

    @property
    def watermark(self) -> int | None:
        """Below this offset all that the lane answers for is applied; None before it is taken over."""
        if self.begun and (self.closed or self.writers.buffered):
            return self.writers.offsets.watermark
        return self.read_to

    @property
    def failure(self) -> LaneFailure | None:
        """What holds up the lane; None: nothing does, as far as is known."""
        failure, watermark = self.retries.failure, self.watermark
        if failure is None or (watermark is not None and watermark > failure.offset):
            return None  # also of a former owner, who had no time to say that it was mended
        return failure

    def caught_up(self, position: int) -> bool:
        """Whether all is applied that the main way has passed over below ``position``."""
        done = self.begun and not self.closed and not self.writers.buffered
        return done and self.read_to == position

    def nearly(self, position: int) -> bool:
        """Whether it may catch up at once, if the main way waits at ``position``."""
        if self._store is None or self.read_to is None or self.stopped or self.paused:
            return False
        if self.failure is not None:
            return False
        return position - self.read_to <= NEAR and self.writers.buffered <= self._store.batch_limit

    @property
    def waiting(self) -> int:
        """How many records wait in the lane, or are in flight; at most, as `WaitingCount` says."""
        held = self.writers.channels.waiting + self.writers.channels.in_flight
        read_to = self.lane.from_offset if self.read_to is None else self.read_to
        return held + self.count.unread(read_to, self._around.position)

    def time_lag(self, now: float) -> float:
        """Age in seconds of the oldest record that waits; 0 if none does."""
        if not self.waiting:
            return 0.0
        offsets = self.writers.offsets
        stamp = offsets.oldest_timestamp
        if stamp is None:
            known = [self.count.oldest, offsets.newest_applied_timestamp]
            stamp = max(filter(None, known), default=int(self.lane.opened_at * 1000))
        return age_of(stamp, now)

    @property
    def state(self) -> str:
        """What the lane does now, for people."""
        if self.read_to is None:
            return "is taken over"
        if not self.begun:
            return "waits for earlier records"
        if self.holding:
            return "held"
        if self.hold is not None and self.hold.state is HoldState.DROPPING:
            return "dropping"
        if self.paused:
            return "paused"
        return "retrying" if self.retries.waiting else "working"
