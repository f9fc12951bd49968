"""Known defects, planted in the code under test, to show that the laws find them.

Each is a context in which one thing is done wrong: in the database's transaction (a subclass of the
simulated one), or in the pipeline (a method replaced for as long as the context lasts).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from pipeline.consumer import starting_offset
from pipeline.consumer.assignment import Supervisor
from pipeline.consumer.channels import Batch, KeyChannels
from pipeline.consumer.multi_key_channels import MultiKeyChannels
from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.consumer.partition import PartitionTask
from pipeline.consumer.writers import Writers
from pipeline.contracts.snapshot import Phase
from pipeline.contracts.store import Claim
from pipeline.contracts.wish import Pause
from pipeline.postgres.ledger.keys import Selection
from pipeline.postgres.ledger.lease import Lease, key_of
from pipeline.postgres.store.decision import Decision
from pipeline.records.record import Record
from tests.simulation.history import MakeDatabase
from tests.simulation.keys import SimulatedKeys
from tests.simulation.lane_defects import LANE_DEFECTS
from tests.simulation.postgres import SimulatedDatabase

Defect = Callable[[], AbstractContextManager[MakeDatabase]]
"""Plants a defect, and gives the database to run a history with."""


class WithoutFence(SimulatedDatabase):
    """Writes whatever the epoch is. (What is looked up and taken over is as it should be.)"""

    def commit_write(self, lease: Lease, records: Sequence[Record]) -> int:
        self.apply_fresh(lease.claim, records)
        self.note_applied(lease.claim, records)
        return len(records)


class AnyServer(SimulatedDatabase):
    """Leases hold on any server, and a fold is computed from memory alone."""

    def given_here(self, lease: Lease) -> bool:
        del lease
        return True


class FoldsFromMemory(SimulatedDatabase):
    """The ledger is folded below what the instance believes, whoever holds the lease."""

    def _fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        for lease, watermark in watermarks:
            self.server.ledger.fold(key_of(lease.claim), watermark)


class LedgerApart(SimulatedDatabase):
    """The data in one transaction, the ledger's row in the next."""

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        rows = await self._guarded("data", lease, partial(self._data, lease, records))
        await self.mark(lease, records)
        return rows

    def _data(self, lease: Lease, records: Sequence[Record]) -> int:
        self.check_fence(lease)
        self.apply_fresh(lease.claim, records)
        return len(records)


class KeysApart(SimulatedDatabase):
    """The keys are claimed in one transaction, what they are claimed for is applied in the next."""

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        selection = await self._guarded("keys", lease, partial(self._claim, lease, records))
        return await self._guarded("write", lease, partial(self._rest, lease, records, selection))

    def _claim(self, lease: Lease, records: Sequence[Record]) -> Selection:
        self.check_fence(lease)
        selection = self.server.keys.select(lease.claim, records)
        self.server.keys.claim(lease.claim, selection)
        return selection

    def _rest(self, lease: Lease, records: Sequence[Record], selection: Selection) -> int:
        self.check_fence(lease)
        self.check_values(records)
        if selection.fresh:
            self.apply(selection.fresh)
        fresh = {record.offset for record in selection.fresh}
        self.server.repeated |= {(r.source, r.offset) for r in records if r.offset not in fresh}
        self.note_applied(lease.claim, records)
        return len(records)


class KeysOfABatch(SimulatedDatabase):
    """A key is looked for in its batch alone."""

    def apply_fresh(self, claim: Claim, records: Sequence[Record]) -> None:
        self.server.keys = SimulatedKeys()
        super().apply_fresh(claim, records)


@contextmanager
def keys_in_another_transaction() -> Iterator[MakeDatabase]:
    yield KeysApart


@contextmanager
def keys_of_a_batch_alone() -> Iterator[MakeDatabase]:
    yield KeysOfABatch


@contextmanager
def fence_dropped() -> Iterator[MakeDatabase]:
    yield WithoutFence


@contextmanager
def leases_outlive_their_server() -> Iterator[MakeDatabase]:
    yield AnyServer


@contextmanager
def fold_from_memory() -> Iterator[MakeDatabase]:
    yield FoldsFromMemory


@contextmanager
def lost_commits_taken_for_a_move() -> Iterator[MakeDatabase]:
    """A group's offset above the ledger is believed, whoever committed it."""
    with patch.object(starting_offset, "is_ours", lambda _: False):
        yield SimulatedDatabase


@contextmanager
def ledger_in_another_transaction() -> Iterator[MakeDatabase]:
    yield LedgerApart


@contextmanager
def commit_before_apply() -> Iterator[MakeDatabase]:
    """The offsets of all that was read are committed, applied or not."""
    with patch.object(OffsetTracker, "watermark", property(lambda tracker: tracker.position)):
        yield SimulatedDatabase


@contextmanager
def fold_before_commit() -> Iterator[MakeDatabase]:
    """The ledger folds below a watermark that Kafka may not get."""
    commit = Supervisor._commit

    async def fold_first(
        supervisor: Supervisor, tasks: Collection[PartitionTask], *, fold: bool = False
    ) -> None:
        moved = supervisor._moved(tasks)
        if moved:
            await supervisor._store.fold([(each.claim, each.watermark) for each in moved])
        await commit(supervisor, tasks, fold=fold)

    with patch.object(Supervisor, "_commit", fold_first):
        yield SimulatedDatabase


@contextmanager
def channel_freed_early() -> Iterator[MakeDatabase]:
    """A batch's keys are free as soon as it is taken, so the next one runs beside it."""

    with ExitStack() as stack:
        for channels in (KeyChannels, MultiKeyChannels):
            take, done = channels.take, channels.done

            def freeing(self: Any, limit: int, *, take: Any = take, done: Any = done) -> Batch:
                batch: Batch = take(self, limit)
                if batch.records:
                    done(self, batch)
                return batch

            stack.enter_context(patch.object(channels, "take", freeing))
            stack.enter_context(patch.object(channels, "done", lambda *_: None))
        yield SimulatedDatabase


@contextmanager
def retry_without_looking() -> Iterator[MakeDatabase]:
    """A write in doubt is taken as not committed."""

    async def never(decision: Decision, records: Sequence[Record]) -> bool:
        del decision, records
        return False

    with patch.object(Decision, "_was_committed", never):
        yield SimulatedDatabase


@contextmanager
def pause_unseen_by_a_new_owner() -> Iterator[MakeDatabase]:
    """A partition that is taken over while it is paused begins all the same."""
    obey = PartitionTask.obey

    def unless_new(task: PartitionTask, pause: Pause | None) -> None:
        if task.phase is not Phase.OPENING:
            obey(task, pause)

    with patch.object(PartitionTask, "obey", unless_new):
        yield SimulatedDatabase


@contextmanager
def pause_unseen_in_the_queue() -> Iterator[MakeDatabase]:
    """A writer that queued for a slot when the partition was paused takes a batch all the same."""

    async def write(writers: Writers, number: int) -> None:
        async with writers._store.slot():
            await writers._top_up()
            batch = writers.channels.take(writers._limit)
            writers._wake_a_writer()
            if batch.records:
                await writers._apply(number, batch)

    with patch.object(Writers, "_write", write):
        yield SimulatedDatabase


@contextmanager
def nobody_woken_after_a_pause() -> Iterator[MakeDatabase]:
    """A partition that goes on wakes no writer, and resumes nothing in Kafka's client."""

    def stand_still(writers: Writers, still: bool) -> None:
        writers.standing_still = still
        if still and writers._open:
            writers._balance()

    with patch.object(Writers, "stand_still", stand_still):
        yield SimulatedDatabase


DEFECTS: tuple[Defect, ...] = (
    fence_dropped,
    leases_outlive_their_server,
    fold_from_memory,
    lost_commits_taken_for_a_move,
    ledger_in_another_transaction,
    commit_before_apply,
    fold_before_commit,
    keys_in_another_transaction,
    keys_of_a_batch_alone,
    channel_freed_early,
    retry_without_looking,
    pause_unseen_by_a_new_owner,
    pause_unseen_in_the_queue,
    nobody_woken_after_a_pause,
    *LANE_DEFECTS,
)
