"""The records of a lane that could not be applied: when they are tried again, and when given up.

While one of them waits the lane stands still. It is tried again after waits that grow, for as long as
``[errors.retry]`` says; then it is given up, and becomes a dead letter. Without an end it is tried until it
succeeds, or until an operator gives it up. An operator may also let it be tried at once.

What holds up the lane stands in its row. So the time of the record that failed goes on over restarts, and
commands can show it while nothing runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import attrs
import trio

from pipeline.consumer.partition_context import LaneContext
from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.log_events import event
from pipeline.contracts.setback import Failure, Setback
from pipeline.contracts.wish import Ruling
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition

log = logging.getLogger(__name__)


class LaneRetries:
    """What failed in one lane. No checkpoints but `run`.

    Args:
        lane: the lane, as it was opened or taken over.
        source: the partition.
        rulings: what operators have said of records of the partition that failed.
        shared: what lanes share: the clock, and the waits between two attempts.
        changed: called when `waiting` or `failure` has changed.
    """

    def __init__(
        self,
        lane: Lane,
        source: TopicPartition,
        rulings: Callable[[], Sequence[Ruling]],
        shared: LaneContext,
        changed: Callable[[], None],
    ) -> None:
        self.failure = lane.failure
        """The first record that can't be applied, as far as is known."""
        self.waiting = False
        """Whether the lane stands still until it is tried again."""
        self._source = source
        self._number = lane.number
        self._name = f"lane {lane.number}"
        self._rulings = rulings
        self._clock = shared.clock
        self._wait_after = shared.wait_after
        self._changed = changed
        self._given_up: dict[int, DeadLetterReason] = {}
        self._failures: dict[int, Failure] = {}
        self._since = {} if lane.failure is None else {lane.failure.offset: lane.failure.since}
        self._heard: set[str] = set()
        self._tries = 0
        self._due = 0.0
        self._set_back = trio.Event()
        self._woken = trio.Event()

    @property
    def gives_up(self) -> bool:
        """Whether a record waits to become a dead letter."""
        return bool(self._given_up)

    def given_up(self, record: Record) -> DeadLetterReason | None:
        """Return why a record is to become a dead letter; None: it is to be applied."""
        return self._given_up.get(record.offset)

    def set_back(self, setback: Setback) -> None:
        """Records could not be applied, and wait in the lane again."""
        now = self._clock()
        first = min(setback.failures, key=lambda failure: failure.record.offset)
        known = self.failure is not None and self.failure.offset == first.record.offset
        if not known:
            self._tries = 0
        self._tries += 1
        for failure in setback.failures:
            self._since.setdefault(failure.record.offset, now)
            self._failures[failure.record.offset] = failure
        offset = first.record.offset
        self.failure = LaneFailure(offset, self._since[offset], first.why.reason)
        if not known:
            self._tell_begin(self.failure)
        over = [failure for failure in setback.failures if self._is_over(failure, now)]
        if not over:
            self._wait(setback.failures, now)
        self.obey()
        self._changed()

    def _is_over(self, failure: Failure, now: float) -> bool:
        """Whether a record was tried for long enough; then it is given up."""
        since = self._since[failure.record.offset]
        if failure.seconds is None or now - since < failure.seconds:
            return False
        reason = f"{failure.why.reason}; it was tried again for {failure.seconds:g} s"
        self._give_up(failure.record, attrs.evolve(failure.why, reason=reason))
        return True

    def _give_up(self, record: Record, why: DeadLetterReason) -> None:
        self._given_up[record.offset] = attrs.evolve(why, attempts=max(self._tries, why.attempts))
        log.warning(
            "%s is given up, and becomes a dead letter: %s", record, why.reason,
            extra=event("given-up", source=record.source, lane=self._number, offset=record.offset,
                        reason=why.reason),
        )  # fmt: skip

    def _wait(self, failures: Sequence[Failure], now: float) -> None:
        left = [
            failure.seconds - (now - self._since[failure.record.offset])
            for failure in failures
            if failure.seconds is not None
        ]
        self._due = trio.current_time() + min([self._wait_after(self._tries - 1), *left])
        self.waiting, self._woken = True, trio.Event()
        self._set_back.set()

    def decided(self, records: Sequence[Record], setback: Setback | None) -> None:
        """All of these records are decided, but for what a setback has."""
        if not self._since:
            return
        left = set() if setback is None else {record.offset for record in setback.records}
        gone = {record.offset for record in records}.intersection(self._since) - left
        for offset in gone:
            del self._since[offset]
            self._failures.pop(offset, None)
            self._given_up.pop(offset, None)
        if self.failure is not None and self.failure.offset in gone:
            self._tell_end(self.failure)
            self.failure = None
            self._changed()

    def _tell_begin(self, failure: LaneFailure) -> None:
        log.warning(
            "%s: record %d can't be applied, and holds up %s: %s",
            self._source, failure.offset, self._name, failure.why,
            extra=event("lane-held-up", source=self._source, lane=self._number, offset=failure.offset,
                        reason=failure.why),
        )  # fmt: skip

    def _tell_end(self, failure: LaneFailure) -> None:
        log.info(
            "%s: record %d holds up %s no more", self._source, failure.offset, self._name,
            extra=event("lane-goes-on", source=self._source, lane=self._number,
                        offset=failure.offset),
        )  # fmt: skip

    def obey(self) -> None:
        """Do what operators have said of the records that wait."""
        for ruling in self._rulings():
            failure = self._failures.get(ruling.offset)
            if failure is None or ruling.offset in self._given_up:
                continue
            if ruling.drop:
                why = f"given up by {ruling.by} ({ruling.id}): {failure.why.reason}"
                self._give_up(failure.record, attrs.evolve(failure.why, reason=why))
            if self.waiting and (ruling.drop or ruling.id not in self._heard):
                self._woken.set()
            self._heard.add(ruling.id)

    async def run(self) -> None:
        """Let what waits be tried again in time, until cancelled."""
        while True:
            await self._set_back.wait()
            self._set_back = trio.Event()
            with trio.move_on_at(self._due):
                await self._woken.wait()
            self._woken = trio.Event()
            self.waiting = False
            self._changed()
