"""The keeper of a partition's lanes: one task opens and closes them, one after the other.

- *The row first.* What waits and matches is withdrawn at once, and counts as done only when the row is
  committed. Until then the partition decodes nothing, so nothing that matches is filed behind it.
- *Closed as one.* A lane that has nearly caught up is waited for: for that the main way decodes nothing for
  a moment. Once the lane's end is asked for, it goes on only when that is known.
- *None is ahead.* No lane is closed while one has read or applied further than the main way has decoded, as
  it may have after a restart: another one has left out what this one answered for, and would not come
  back; and what this one has applied beyond its end, the main way would apply once more. Nor while Kafka has
  a higher offset: what a lane no longer answers for below it would be taken for commits that were lost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from pipeline.consumer.lane_names import lane_fields, lane_name
from pipeline.consumer.lane_task import LaneTask
from pipeline.consumer.lane_tidier import LaneTidier
from pipeline.consumer.lanes import Lanes
from pipeline.consumer.overflow import Overflow
from pipeline.consumer.partition_context import LaneContext, PartitionContext
from pipeline.consumer.writers import Writers
from pipeline.contracts.lane import Lane, LaneFailure, LaneReason
from pipeline.contracts.log_events import event
from pipeline.contracts.rule import Rule
from pipeline.contracts.setback import Failure
from pipeline.contracts.store import Claim, PartitionStore
from pipeline.records.ranges import outside, ranges_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often it is looked whether a lane is to be opened, or may be closed."""

CLOSE_SECONDS = 0.25
"""For how long the main way decodes nothing, so that a lane can catch up with it."""

CATCH_SECONDS = 0.01
MOST_SECONDS = 30.0
"""How long it takes at most until a lane that did not catch up is waited for again."""


@attrs.define
class _Catching:
    """When a lane is waited for again, and how long that was put off last."""

    at: float = 0.0
    wait: float = LOOK_SECONDS


class LaneKeeper:
    """Opens and closes the lanes of a partition.

    Args:
        lanes: the lanes.
        main: the main way.
        context: what partitions share.
        shared: what lanes share.
        claim: on the partition.
        store: of the partition, as it was taken over.
        acknowledged: below this offset Kafka takes all for done.
    """

    def __init__(
        self,
        lanes: Lanes,
        main: Writers,
        context: PartitionContext,
        shared: LaneContext,
        claim: Claim,
        store: PartitionStore,
        acknowledged: int = 0,
    ) -> None:
        self._acknowledged = acknowledged
        self._lanes = lanes
        self._main = main
        self._context = context
        self._shared = shared
        self._claim = claim
        self._store = store
        self._last = store.last_lane
        self._catching: dict[int, _Catching] = {}
        self._tidier = LaneTidier(lanes, context.store, claim, store)
        self._overflow = Overflow(shared.kind, shared.tenant_of) if shared.kind else None
        self._told_of_bound = False
        self._nursery: trio.Nursery
        lanes.table.put(*store.lanes)
        self._seen = lanes.refresh()

    def start(self, nursery: trio.Nursery) -> None:
        """Work in a nursery until it is cancelled. What lanes answer for is passed over already before that.

        It is the partition's own: a lane that is fenced ends the main way in the same moment. In a nursery of
        their own the lanes would first have to end, and the main way would go on without its keeper. The
        tasks raise what `PartitionStore.apply` raises. Not a checkpoint.
        """
        self._nursery = nursery
        for lane in list(self._lanes.table):
            if lane.until_offset is None:
                self._adopt(lane)
        nursery.start_soon(self._follow)
        nursery.start_soon(self._keep)
        nursery.start_soon(self._tidier.run)

    def forget(self) -> None:
        """The partition has ended: the store need not know its lanes any more. Not a checkpoint."""
        for lane in self._lanes.table:
            self._context.store.forget(attrs.evolve(self._claim, lane=lane.number))

    def _adopt(self, lane: Lane) -> None:
        """Go on with a lane of a former owner."""
        if self._start(lane).owe_nothing():
            log.warning(
                "%s: if the first record of %s was to be dropped just now and still waits, drop it again",
                self._claim.source, self._name(lane),
            )  # fmt: skip

    def _start(self, lane: Lane) -> LaneTask:
        task = self._lanes.add(lane)
        self._nursery.start_soon(task.run, name=f"lane {lane.number} of {self._claim.source}")
        return task

    async def _follow(self) -> None:
        while True:
            await self._context.wishes.changed(self._seen)
            self._seen = self._lanes.refresh()

    async def _keep(self) -> None:
        looked = trio.current_time()
        while True:
            with trio.move_on_after(LOOK_SECONDS):
                await self._lanes.woken.wait()
            self._lanes.woken = trio.Event()
            await self._open_for_kept_back()
            await self._note_failures()
            if trio.current_time() >= looked + LOOK_SECONDS:
                await self._open_for_overflow()
                await self._close_what_is_done()
                looked = trio.current_time()

    # Opening

    async def _open_for_kept_back(self) -> None:
        for rule in self._lanes.kept_back.rules:
            if not self._may_open():
                continue
            holds = [hold.id for hold in self._lanes.holds.stopping if hold.rule == rule]
            if rule not in self._lanes.kept_back.rules:
                continue  # let go while another lane was opened
            if cause := self._lanes.setbacks.cause(rule):
                await self._open(rule, cause.reason, failed=cause)
            elif holds:
                await self._open(rule, LaneReason.HOLD, holds[0])

    async def _open_for_overflow(self) -> None:
        if self._overflow is None:
            return
        main = self._main
        filling, now = main.intake.filling and not main.standing_still, trio.current_time()
        rule = self._overflow.look(main.channels, filling, self._shared.buffered, now)
        if rule is None or self._lanes.table.open_lane_of(rule) is not None:
            return
        if self._may_open():
            await self._open(rule, LaneReason.OVERFLOW)

    def _may_open(self) -> bool:
        """Whether another lane may be opened; told once if there are too many.

        While one waits for its turn, or the main way has not come as far again as lanes had been, another may
        always be: none of those can be closed before what needs the other one has its lane.
        """
        if self._lanes.closed:
            return False
        tasks, position = self._lanes.tasks.values(), self._lanes.position
        waiting = any(not task.begun and not self._lanes.is_clear(task.lane) for task in tasks)
        reached = max([self._acknowledged, *(task.reached or 0 for task in tasks)])
        if waiting or reached > position:
            return True
        lanes = len(tasks)
        if lanes >= self._shared.most and not self._told_of_bound:
            log.warning(
                "%s has %d lanes, and may not have more (limits.max_lanes): what needs another one holds "
                "up the others, as without lanes", self._claim.source, lanes,
                extra=event("lanes-full", source=self._claim.source),
            )  # fmt: skip
            self._told_of_bound = True
        return lanes < self._shared.most

    async def _open(
        self, rule: Rule, reason: LaneReason, hold: str = "", failed: Failure | None = None
    ) -> None:
        """Give a rule a lane, which begins with what waits of it."""
        matches = self._lanes.matches(rule)
        with self._lanes.kept_back.moving(rule, matches) as withdrawn:
            offsets = [record.offset for record in withdrawn]
            position = self._lanes.position
            start = min(offsets, default=position)
            stay = self._applied_before(start)
            if rule.kind == "tenant":
                stay = self._staying(offsets, start, position)
            self._last += 1
            now = self._shared.clock()
            failure = None
            if failed is not None:
                failure = LaneFailure(failed.record.offset, now, failed.why.reason)
            lane = Lane(
                self._last, rule, reason, start,
                left_out=stay, hold=hold, opened_at=now, failure=failure,
            )  # fmt: skip
            await self._store.open_lane(lane)
            task = self._start(lane)
            task.count.opened(start, withdrawn)
            task.owe_nothing()
            self._main.offsets.done(withdrawn)
        self._lanes.refresh()
        log.warning(
            "%s: %s opened from offset %d on: %d records that waited, and what comes, have a way of "
            "their own now%s", self._claim.source, self._name(lane), start, len(offsets),
            "" if failure is None else f"; record {failure.offset} failed: {failure.why}",
            extra=event("lane-opened", **self._fields(lane), offset=start, records=len(offsets),
                        reason=reason.value),
        )  # fmt: skip

    def _applied_before(self, start: int) -> tuple[tuple[int, int], ...]:
        """Ranges of offsets from ``start`` on that a former owner has applied.

        In its key's order nothing is ahead of what waits, but for a record that could not be applied: it was
        about to become a dead letter, and later ones of its key were applied already.
        """
        above = self._store.applied.above
        return tuple((max(begin, start), end) for begin, end in above if end > start)

    def _staying(
        self, withdrawn: Sequence[int], start: int, position: int
    ) -> tuple[tuple[int, int], ...]:
        """Ranges of offsets from ``start`` on that stay with the main way, if they match.

        That is what it has decoded and is not withdrawn, so is in flight or applied; but what waits matches
        nothing. And, after a take-over, what is applied and was not come to yet.
        """
        waiting = [record.offset for record in self._main.channels.waiting_records()]
        decoded = outside(start, position, ranges_of([*withdrawn, *waiting]))
        applied = self._main.offsets.completed_ranges()
        ahead = [(max(begin, position), end) for begin, end in applied if end > position]
        return (*decoded, *ahead)

    def _name(self, lane: Lane) -> str:
        return lane_name(lane, details=self._shared.details)

    def _fields(self, lane: Lane) -> dict[str, Any]:
        return lane_fields(self._claim.source, lane, details=self._shared.details)

    async def _note_failures(self) -> None:
        """Write what holds up lanes, where that has changed."""
        for number, task in list(self._lanes.tasks.items()):
            failure = task.failure
            if failure != task.lane.failure and not self._lanes.closed:
                await self._store.note_failure(number, failure)
                task.lane = attrs.evolve(task.lane, failure=failure)
                self._lanes.table.put(task.lane)

    # Closing

    async def _close_what_is_done(self) -> None:
        for number, task in list(self._lanes.tasks.items()):
            if task.caught_up(self._lanes.position):
                task.owe_nothing()
            if not task.nearly(self._lanes.position):
                continue
            catching = self._catching.setdefault(number, _Catching())
            if trio.current_time() >= catching.at and not await self._close(task):
                catching.wait = min(2 * catching.wait, MOST_SECONDS)
                catching.at = trio.current_time() + catching.wait

    async def _close(self, task: LaneTask) -> bool:
        """Let a lane end where the main way has decoded to, if it catches up with that at once."""
        lane, lanes = task.lane, self._lanes
        with self._main.decoding_nothing():
            position = lanes.position
            with trio.move_on_after(CLOSE_SECONDS):
                while not task.caught_up(position):  # noqa: ASYNC110 (of reads and writes both)
                    await trio.sleep(CATCH_SECONDS)
            if not task.caught_up(position) or task.stopped or self._is_behind(position):
                return False
            await self._store.close_lane(lane.number, position)
            task.end()
            del lanes.tasks[lane.number]
            lanes.table.put(attrs.evolve(lane, until_offset=position))
        self._catching.pop(lane.number, None)
        if self._overflow is not None:
            self._overflow.closed(lane.rule, trio.current_time())
        lanes.refresh()
        facts = event("lane-closed", **self._fields(lane), offset=position)
        name = self._name(lane)
        log.info("%s: %s is closed at offset %d", self._claim.source, name, position, extra=facts)
        return True

    def _is_behind(self, position: int) -> bool:
        """Whether Kafka has a higher offset of ours than ``position``, or a lane has come further.

        So it may be after a take-over. What lies between would be the main way's if a lane ended here, and
        Kafka takes it for done.
        """
        if position < self._acknowledged:
            return True
        reached = [task.reached for task in self._lanes.tasks.values()]
        return any(to is None or to > position for to in reached)
