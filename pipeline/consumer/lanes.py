"""The lanes of one partition: what each record's way is, and what lanes ask of what is around them.

A lane is a rule and a range of offsets, a row in the ledger. The main way passes over the records that a
lane answers for, and the lane reads them once more (`lane_task`). Who opens and closes them is the
keeper (`lane_keeper`). Where there is no lane and no hold, the main way has no sieve: that is all that a
record costs.

**Its turn.** A lane begins when nobody else holds what comes before: not the main way, and no younger
lane, which may have taken from the main way what this one waits for: one of the other kind of rule, or of
the same rule, opened further below after a restart. It never waits for an older one: what two of them match
is the older one's but for what had come before, and that was the main way's.

**Who is held.** An operator's hold stops the lane of its rule, whatever that was opened for. A lane of
another rule that meets a record of the hold (a key's lane, whose tenant is held) stands still as a whole.
"""

from __future__ import annotations

import logging

import trio

from pipeline.consumer.channels import Matches
from pipeline.consumer.holds import Holds
from pipeline.consumer.kept_back import KeptBack
from pipeline.consumer.lane_names import lane_fields
from pipeline.consumer.lane_table import LaneTable
from pipeline.consumer.lane_task import LaneTask
from pipeline.consumer.partition_context import LaneContext, PartitionContext
from pipeline.consumer.setbacks import Setbacks
from pipeline.consumer.starting_offset import tell_lost
from pipeline.consumer.writers import Writers
from pipeline.contracts.kafka import Fetched
from pipeline.contracts.lane import Lane
from pipeline.contracts.log_events import event
from pipeline.contracts.rule import Rule
from pipeline.contracts.snapshot import LaneSnapshot
from pipeline.contracts.store import Claim
from pipeline.contracts.wish import Ruling
from pipeline.records.record import Record

log = logging.getLogger(__name__)

NEAR = 0.2
"""It is told when less than this part of the topic's retention is left to what waits in a lane."""

CLEAR_SECONDS = 0.1
"""How often it is looked whether a lane's turn has come."""

FETCH_BYTES = 256 * 1024
"""How much is read at once: some 2,000 records of 130 bytes, decoded in some milliseconds."""


class Lanes:
    """The lanes of a partition that this instance owns.

    Args:
        context: what partitions share.
        lanes: what lanes share.
        main: the records that go the main way.
        claim: on the partition.
    """

    def __init__(
        self, context: PartitionContext, lanes: LaneContext, main: Writers, claim: Claim
    ) -> None:
        self.table = LaneTable(lanes.tenant_of)
        self.tasks: dict[int, LaneTask] = {}
        """Of the lanes that are open, by number."""
        self.kept_back = KeptBack(main)
        self.setbacks = Setbacks(main, self.kept_back, lanes.rule_of, self.matches, self.wake)
        self.holds = Holds(context.wishes, lanes.tenant_of)
        self.closed = False
        """Whether a drain has begun: no lane is opened or closed any more."""
        self.woken = trio.Event()
        """Set when there is something for the keeper to do at once."""
        self._context = context
        self._lanes = lanes
        self._main = main
        self._claim = claim
        self._paused = False
        self._reading = trio.Lock()
        self._progress = trio.lowlevel.ParkingLot()
        self._told_near: set[int] = set()

    # The main way. No checkpoints.

    def arm(self) -> None:
        """Let the main way divide its records if there is anything to divide."""
        needed = len(self.table) or self.holds.stopping
        self._main.intake.sieve = self._sieve if needed else None

    def _sieve(self, records: list[Record]) -> tuple[list[Record], list[Record]]:
        """Divide what was decoded: the main way's, and what lanes have. What is held waits for its lane."""
        kept: list[Record] = []
        passed: list[Record] = []
        for record in records:
            lane = self.table.lane_of(record)
            if lane is not None:
                passed.append(record)
                if lane.number in self.tasks:
                    self.tasks[lane.number].count.passed([record])
            elif (hold := self.holds.stops(record)) is not None:
                self.kept_back.add(hold.rule, [record])
                self.wake()
            else:
                kept.append(record)
        self._progress.unpark_all()
        return kept, passed

    def add(self, lane: Lane) -> LaneTask:
        """A lane is open: the caller runs the task. What it answers for is passed over from now on."""
        task = LaneTask(lane, self._claim, self._context, self, self._lanes)
        self.table.put(lane)
        self.tasks[lane.number] = task
        self._order(task)
        self.arm()
        return task

    # What operators wish. No checkpoints.

    def refresh(self) -> int:
        """Do what is wished now; return the version of the wishes."""
        version = self.holds.refresh()
        stopping = self.holds.stopping
        self.arm()
        for rule in self.kept_back.rules:
            if rule not in self.setbacks and all(hold.rule != rule for hold in stopping):
                self.kept_back.let_go(rule)  # first: another hold may mean it too
        for hold in stopping:
            if self.table.open_lane_of(hold.rule) is None:
                found = self._main.channels.withdraw(self.matches(hold.rule))
                if found:
                    self.kept_back.add(hold.rule, found)
                    self.wake()
        for task in self.tasks.values():
            foreign = [hold for hold in stopping if hold.rule != task.lane.rule]
            task.met |= {x.id for x in foreign if task.writers.have(self.matches(x.rule))}
            task.retries.obey()
            self._order(task)
        return version

    def pause(self, paused: bool) -> None:
        """Let all lanes stand still, or go on."""
        self._paused = paused
        for task in self.tasks.values():
            self._order(task)

    def _order(self, task: LaneTask) -> None:
        task.obey(self.holds.of(task.lane, task.met), paused=self._paused)

    # What a lane asks: see `Around`

    @property
    def position(self) -> int:
        """See `Around.position`."""
        position = self._main.offsets.position
        assert position is not None, "whoever has lanes knows where it began"
        return position

    async def moved(self, position: int) -> None:
        """See `Around.moved`."""
        while self.position <= position:
            await self._progress.park()

    async def read(self, offset: int) -> Fetched:
        """See `Around.read`; the partition's lanes take turns."""
        async with self._reading:
            return await self._lanes.records.read(
                self._claim.source, self._claim.topic_id, offset, FETCH_BYTES
            )

    def lane_of(self, record: Record) -> Lane | None:
        """See `Around.lane_of`."""
        return self.table.lane_of(record)

    def matches(self, rule: Rule) -> Matches:
        """See `Around.matches`."""
        return self.table.matches(rule)

    def rulings(self) -> list[Ruling]:
        """See `Around.rulings`."""
        claim = self._claim
        mine = (claim.source.topic, claim.source.partition, str(claim.topic_id))
        found = self._context.wishes.rulings()
        return [each for each in found if (each.topic, each.partition, each.topic_id) == mine]

    def wake(self) -> None:
        """See `Around.wake`."""
        self.woken.set()

    def met(self, task: LaneTask, record: Record) -> None:
        """See `Around.met`."""
        hold = self.holds.stops(record)
        if hold is not None and hold.rule != task.lane.rule and hold.id not in task.met:
            task.met.add(hold.id)
            self._order(task)

    async def clear(self, task: LaneTask) -> None:
        """See `Around.clear`."""
        while not self.is_clear(task.lane):  # noqa: ASYNC110 (of records, lanes and decoding all three)
            await trio.sleep(CLEAR_SECONDS)

    def is_clear(self, lane: Lane) -> bool:
        """Whether nobody holds what must be applied before a lane's records."""
        matches = self.matches(lane.rule)
        if self.position < lane.clear_from or self.kept_back.have(matches):
            return False
        if self._main.have(matches):
            return False
        younger = [task for number, task in self.tasks.items() if number > lane.number]
        return all(
            not task.lane.rule.may_meet(lane.rule)
            or task.lane.from_offset >= lane.clear_from
            or (task.watermark is not None and task.watermark >= lane.clear_from)
            for task in younger
        )

    def lost(self, task: LaneTask, start: int, end: int) -> None:
        """See `Around.lost`."""
        source, records = self._claim.source, task.count.lost(start, end)
        if records > 0:
            tell_lost(source, start, end, lane=task.lane.number)
            lost = self._context.metrics.records_lost
            lost.labels(source.topic, str(source.partition)).inc(records)

    def _left(self, task: LaneTask, now: float) -> float | None:
        """Seconds until Kafka may delete the lane's oldest record; told once when they run out."""
        kept = self._lanes.retention(self._claim.source.topic)
        if kept is None or not task.waiting:
            return None
        left = kept - task.time_lag(now)
        if left < NEAR * kept and task.lane.number not in self._told_near:
            self._told_near.add(task.lane.number)
            log.warning(
                "%s: what waits in lane %d (%s) is %.0f s old, and Kafka keeps records for %.0f s: after "
                "that they are lost", self._claim.source, task.lane.number, task.lane.reason.value,
                task.time_lag(now), kept,
                extra=event("lane-near-retention", **lane_fields(
                    self._claim.source, task.lane, details=self._lanes.details)),
            )  # fmt: skip
        return left

    # Its end

    @property
    def buffered(self) -> int:
        """Records held for lanes."""
        return len(self.kept_back) + sum(task.writers.buffered for task in self.tasks.values())

    @property
    def keeps_back(self) -> bool:
        """Whether records wait for a lane that is not open yet: nothing is decoded meanwhile."""
        return bool(self.kept_back.rules)

    @property
    def in_flight(self) -> int:
        """How many of them are in transactions."""
        return sum(task.writers.channels.in_flight for task in self.tasks.values())

    def close(self) -> int:
        """Start no batch any more; return how many waiting records were dropped. No checkpoint."""
        self.closed = True
        return sum(task.close() for task in self.tasks.values()) + len(self.kept_back)

    async def idle(self) -> None:
        """After `close`: wait until nothing is in flight. A checkpoint."""
        for task in list(self.tasks.values()):
            await task.writers.idle()

    def snapshots(self) -> tuple[LaneSnapshot, ...]:
        """Every lane that is open, as it is now. Not a checkpoint."""
        if not self.tasks:
            return ()
        now = self._lanes.clock()
        return tuple(
            LaneSnapshot(
                number=number,
                rule=task.lane.rule,
                reason=task.lane.reason,
                state=task.state,
                waiting=task.waiting,
                time_lag=task.time_lag(now),
                opened_at=task.lane.opened_at,
                hold=task.hold,
                retention=self._left(task, now),
                failure=task.failure,
            )
            for number, task in self.tasks.items()
        )
