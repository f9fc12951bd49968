"""Known defects of lanes, planted as those of ``defects.py`` are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import trio

from pipeline.consumer.lane_keeper import LaneKeeper
from pipeline.consumer.lane_task import LaneTask
from pipeline.consumer.lane_tidier import LaneTidier
from pipeline.consumer.lanes import Lanes
from pipeline.consumer.setbacks import Setbacks
from pipeline.contracts.lane import Lane
from pipeline.contracts.setback import Setback
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.postgres.store.shard_partition import ShardPartition
from pipeline.records.record import Record
from tests.simulation.history import MakeDatabase
from tests.simulation.postgres import SimulatedDatabase


@contextmanager
def lane_opened_after_passing_over() -> Iterator[MakeDatabase]:
    """What a lane is to have counts as done while its row is still on its way."""
    open_lane = ShardPartition.open_lane

    async def later(partition: ShardPartition, lane: Lane) -> None:
        async def write() -> None:
            await trio.sleep(3.0)
            try:
                await open_lane(partition, lane)
            except Exception as error:  # whatever it is: the instance has gone on without it
                del error

        trio.lowlevel.spawn_system_task(write)

    with patch.object(ShardPartition, "open_lane", later):
        yield SimulatedDatabase


@contextmanager
def lane_closed_too_early() -> Iterator[MakeDatabase]:
    """A lane that has read everything is closed, though it has not applied it yet."""
    with patch.object(LaneTask, "caught_up", lambda task, position: task.read_to == position):
        yield SimulatedDatabase


@contextmanager
def two_lanes_both_answer() -> Iterator[MakeDatabase]:
    """A lane takes whatever its own row says, also if an older lane answers for it."""

    def sieve(task: LaneTask, records: list[Record]) -> tuple[list[Record], list[Record]]:
        matches, lane = task._around.matches(task.lane.rule), task.lane
        mine = [r for r in records if matches(r) and lane.covers(r.offset)]
        for record in mine:
            task._around.met(task, record)
        return mine, [r for r in records if r not in mine]

    with patch.object(LaneTask, "_sieve", sieve):
        yield SimulatedDatabase


@contextmanager
def lane_begins_before_its_turn() -> Iterator[MakeDatabase]:
    """A lane begins while what comes before its records waits, or is in flight, elsewhere."""
    with patch.object(Lanes, "is_clear", lambda *_: True):
        yield SimulatedDatabase


class WithoutLanesEpochs(SimulatedDatabase):
    """A lane that had an owner is read, and its epoch left as it is."""

    def _take_over(self, key: tuple[Any, ...], writers: int, under: Lease | None) -> TakenOver:
        before = dict(self.server.epochs.get(key, {}))
        found = super()._take_over(key, writers, under)
        if under is None or not before:
            return found
        self.server.epochs[key].update(before)
        return TakenOver(sorted(before.values()), found.applied, found.lanes, found.last_lane)


@contextmanager
def lane_taken_over_without_its_epoch() -> Iterator[MakeDatabase]:
    yield WithoutLanesEpochs


@contextmanager
def lane_answers_for_what_is_applied() -> Iterator[MakeDatabase]:
    """After a take-over a lane of a tenant leaves out what was decoded, not what was applied ahead."""
    staying = LaneKeeper._staying

    def decoded_only(
        keeper: LaneKeeper, withdrawn: Sequence[int], start: int, position: int
    ) -> tuple[tuple[int, int], ...]:
        found = staying(keeper, withdrawn, start, position)
        return tuple((begin, end) for begin, end in found if begin < position)

    with patch.object(LaneKeeper, "_staying", decoded_only):
        yield SimulatedDatabase


@contextmanager
def lane_closed_while_another_is_ahead() -> Iterator[MakeDatabase]:
    """After a take-over a lane is closed below what another one has read, and left out for it."""
    with patch.object(LaneKeeper, "_is_behind", lambda *_: False):
        yield SimulatedDatabase


@contextmanager
def lane_folds_what_it_has_read() -> Iterator[MakeDatabase]:
    """A lane's ledger says that all is applied up to where it has read."""
    with patch.object(LaneTask, "watermark", property(lambda task: task.read_to)):
        yield SimulatedDatabase


@contextmanager
def lane_forgotten_while_a_younger_one_reads() -> Iterator[MakeDatabase]:
    """A lane is forgotten, and a younger one reads again what it had applied."""
    with patch.object(LaneTidier, "_may_forget", lambda _: True):
        yield SimulatedDatabase


@contextmanager
def failed_record_counts_as_done_without_a_lane() -> Iterator[MakeDatabase]:
    """A record that is to be tried again in a lane is passed over before the lane is there."""
    take = Setbacks.take

    def done(setbacks: Setbacks, setback: Setback) -> None:
        take(setbacks, setback)
        setbacks._main.offsets.done(setback.records)

    with patch.object(Setbacks, "take", done):
        yield SimulatedDatabase


@contextmanager
def key_of_a_failed_record_goes_on() -> Iterator[MakeDatabase]:
    """What waits behind a record that failed is applied before its lane is open."""

    def take(setbacks: Setbacks, setback: Setback) -> None:
        for failure in setback.failures:
            rule = setbacks._rule_of(failure.record)
            assert rule is not None
            setbacks._causes.setdefault(rule, failure)
            mine = [r for r in setback.records if setbacks._rule_of(r) == rule]
            setbacks._kept_back.add(rule, mine)
        setbacks._wake()

    with patch.object(Setbacks, "take", take):
        yield SimulatedDatabase


LANE_DEFECTS: tuple[Callable[[], AbstractContextManager[MakeDatabase]], ...] = (
    lane_opened_after_passing_over,
    lane_closed_too_early,
    lane_begins_before_its_turn,
    lane_answers_for_what_is_applied,
    lane_folds_what_it_has_read,
    failed_record_counts_as_done_without_a_lane,
    key_of_a_failed_record_goes_on,
    two_lanes_both_answer,
    lane_closed_while_another_is_ahead,
)

SOUGHT: tuple[Callable[[], AbstractContextManager[MakeDatabase]], ...] = (
    lane_taken_over_without_its_epoch,
    lane_forgotten_while_a_younger_one_reads,
)
"""Not found in the first hundreds of seeds: histories in which they show are too rare as yet."""
