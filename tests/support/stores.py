"""A store over a fake database, for what is decided without Postgres."""

# ruff: noqa: ARG001, ARG002, ARG005 (fakes ignore much)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import attrs
import trio
from asyncpg.exceptions import PostgresError

from pipeline.config.model import ShardConfig
from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.store import AppliedOffsets, Claim, Fenced
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Session
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.retry_policy import RetryPolicy
from pipeline.postgres.store.shard_partition import ShardPartition
from pipeline.postgres.store.shard_store import ShardStore
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from tests.support.records import SOURCE, record

CLAIM = Claim("group", SOURCE, UUID(int=1))


def server_error(
    sqlstate: str, message: str = "no", detail: str = "", hint: str = ""
) -> PostgresError:
    more = {"D": detail, "H": hint}
    return PostgresError.new(
        {"C": sqlstate, "M": message, "S": "ERROR", "V": "ERROR"}
        | {k: v for k, v in more.items() if v}
    )


Answer = Callable[[Sequence[Record]], None]
"""What the database does with a batch before it applies it: nothing, or raise."""


class FakeDatabase:
    """Applies to a list. ``answers`` are used up, one a write; then ``always`` answers."""

    shape = None

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.always: Answer = lambda records: None
        self.applied: list[int] = []
        self.marked: list[int] = []
        self.calls: list[str] = []
        self.folded: list[Any] = []
        self.committed: set[int] = set()
        self.epoch = 1
        self.mark_errors: list[Exception] = []
        self.take_over_errors: list[Exception] = []
        self.probe_error: Exception | None = None
        self.fold_error: Exception | None = None
        self.another_server = False
        self.lanes: dict[int, Lane] = {}
        self.last_lane = 0
        self.foldable = False
        self.lane_errors: list[Exception] = []
        """Each is raised once, after what was asked for is done."""
        self.keeper_epoch = 1
        self.reasons: list[str] = []

    async def take_over(self, claim: Claim, writers: int, under: Lease | None = None) -> TakenOver:
        self.calls.append("take_over")
        if self.take_over_errors:
            raise self.take_over_errors.pop(0)
        if under is not None:
            self._demand(under)
            return TakenOver([self.epoch] * writers)
        epochs = [self.epoch] * (writers - 1) + [self.keeper_epoch]
        return TakenOver(epochs, AppliedOffsets(5), list(self.lanes.values()), self.last_lane)

    def _demand(self, lease: Lease) -> None:
        if lease.epoch != self.keeper_epoch:
            raise Fenced("lost the epoch")

    def _answer(self) -> None:
        if self.lane_errors:
            raise self.lane_errors.pop(0)

    async def open_lane(self, lease: Lease, lane: Lane) -> None:
        self.calls.append(f"open {lane.number}")
        self._demand(lease)
        self.lanes.setdefault(lane.number, lane)
        self.last_lane = max(self.last_lane, lane.number)
        self._answer()

    async def note_failure(self, lease: Lease, number: int, failure: LaneFailure | None) -> None:
        self.calls.append(f"note {number}")
        self._demand(lease)
        self.lanes[number] = attrs.evolve(self.lanes[number], failure=failure)
        self._answer()

    async def close_lane(self, lease: Lease, number: int, until: int) -> None:
        self.calls.append(f"close {number} {until}")
        self._demand(lease)
        self.lanes[number] = attrs.evolve(self.lanes[number], until_offset=until)
        self._answer()

    async def forget_lanes(self, lease: Lease) -> list[int]:
        self.calls.append("forget")
        self._demand(lease)
        closed = [n for n, lane in self.lanes.items() if lane.until_offset is not None]
        for number in closed if self.foldable else []:
            del self.lanes[number]
        self._answer()
        return [] if self.foldable else closed

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        self.calls.append("write")
        assert records, "no transaction for nothing"
        if lease.epoch != self.epoch:
            raise Fenced("lost the epoch")
        (self.answers.pop(0) if self.answers else self.always)(records)
        self.applied += [record.offset for record in records]
        return len(records)

    async def probe(self) -> bool:
        self.calls.append("probe")
        if self.probe_error is not None:
            raise self.probe_error
        return True

    async def mark(
        self, lease: Lease, records: Sequence[Record], why: DeadLetterReason | None = None
    ) -> None:
        self.calls.append("mark")
        if self.mark_errors:
            raise self.mark_errors.pop(0)
        self.marked += [record.offset for record in records]
        self.reasons += [why.error] if why else []

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        self.calls.append("resolve")
        if not records:  # the keeper's
            self.keeper_epoch += 1
            return self.keeper_epoch, False
        self.epoch += 1
        return self.epoch, {record.offset for record in records} <= self.committed

    async def fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        if self.fold_error is not None:
            raise self.fold_error
        self.folded += [(lease.claim, watermark) for lease, watermark in watermarks]

    async def voided(self, leases: Sequence[Lease]) -> list[Lease]:
        return list(leases) if self.another_server else []


class FakeShard(Shard):
    """A shard whose breaker closes again by itself, as a probe would close it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        config = ShardConfig(name="db0", dsn="", connections=2)
        super().__init__(config, Session("test"), Metrics())
        self.dropped = 0
        nursery.start_soon(self.breaker.watch, trio.lowlevel.checkpoint)

    def drop_idle(self) -> None:
        self.dropped += 1


class FakeDeadLetters:
    def __init__(self) -> None:
        self.kept: list[tuple[int, DeadLetterReason]] = []

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        self.kept.append((record.offset, rejection))


class World:
    """A store over a fake database, opened for one partition."""

    def __init__(
        self,
        nursery: trio.Nursery,
        others_work: Callable[[], bool] = lambda: False,
        *,
        details: bool = False,
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008 (never changes)
    ) -> None:
        self.database = FakeDatabase()
        self.shard = FakeShard(nursery)
        self.dead_letters = FakeDeadLetters()
        self.store = ShardStore(
            self.shard,
            self._connect,
            self.dead_letters,
            BatchSizers(100, bounded=False),
            clock=trio.current_time,
            others_work=others_work,
            details=details,
            policy=policy,
        )

    async def _connect(self) -> FakeDatabase:
        return self.database

    async def open(self) -> ShardPartition:
        return await self.store.open(CLAIM)


def records(count: int) -> list[Record]:
    return [record(offset, "k") for offset in range(count)]


def raising(error: Exception) -> Answer:
    def answer(records: Sequence[Record]) -> None:
        raise error

    return answer


def refusing(*guilty: int) -> Answer:
    """As Postgres: a batch with a bad row in it is refused as a whole."""

    def answer(records: Sequence[Record]) -> None:
        if any(record.offset in guilty for record in records):
            raise server_error("22003")

    return answer
