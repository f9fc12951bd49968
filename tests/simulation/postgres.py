"""A simulated Postgres: `Transactions` in virtual time, below the real store.

    client          SimulatedDatabase.write …   one for each instance and shard
      ↓ request     on its way, running under its row locks, answered; each may go wrong
    SimulatedServer the data, the ledger, the epochs: changed in one step at each commit

A request is a task of the server, not of its client: a client that is cancelled, frozen or dead
leaves it running, as a broken connection leaves a statement running until it tries to answer. So a
write whose answer was lost can land long after its client was told of an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from copy import deepcopy
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import asyncpg
import attrs
import trio

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.store import Claim, Fenced
from pipeline.postgres.ledger.lease import Lease, TakenOver, key_of
from pipeline.postgres.store.database import Transactions
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition, offset_of
from pipeline.records.rows import Shape
from tests.simulation.keys import SimulatedKeys
from tests.simulation.ledger import SimulatedLanes, SimulatedLedger
from tests.simulation.locks import RowLocks
from tests.simulation.refusals import SQLSTATE
from tests.simulation.world import Gate, World

T = TypeVar("T")

ROLLED_BACK = ("40001", "40P01", "53300", "55P03", "57014", "57P03", "XX000", "26000")
IN_DOUBT = ("08006", "57P01", "57P02", "40003")

TIMEOUT_SECONDS = 5.0
"""After which a client gives up on a server that does not answer."""
CLOSE_SECONDS = 2.0
"""How long a cancelled client waits for its connection to be closed; see `bridge.CLOSE_SECONDS`."""


class State(Enum):
    """What a client meets."""

    UP = "up"
    DEAD = "dead"
    """The process is gone: connections are refused, running transactions were rolled back."""
    SILENT = "silent"
    """The network is gone: nothing arrives and no answer leaves; what runs, runs on."""


@attrs.define(eq=False)
class Request:
    """One transaction of a client, and what will happen to it."""

    name: str
    rows: Sequence[Hashable]
    exclusive: bool
    commit: Callable[[], Any]
    """Checks the fence and changes everything, in one step; what it raises, changes nothing."""
    transit: float
    work: float
    error: Exception | None = None
    committed_first: bool = False
    """``error`` comes after the commit."""
    arrives: bool = True
    answers: bool = True
    patience: float = TIMEOUT_SECONDS * 10
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    answered: trio.Event = attrs.field(factory=trio.Event)
    result: Any = None
    failure: Exception | None = None

    def answer(self, result: Any, failure: Exception | None) -> None:
        self.result, self.failure = result, failure
        self.answered.set()

    def outcome(self) -> Any:
        if self.failure is not None:
            raise self.failure
        return self.result


@attrs.frozen
class Copy:
    """What a server held at one moment."""

    epochs: dict[Hashable, dict[int, int]]
    leased_by: dict[Hashable, int]
    ledger: SimulatedLedger
    lanes: SimulatedLanes
    counters: Counter[str]
    applied: list[tuple[TopicPartition, Hashable, int]]
    keys: SimulatedKeys
    marked: set[tuple[TopicPartition, int]]


class SimulatedServer:
    """One database: what is stored, and the requests that run."""

    def __init__(self, name: str, world: World, nursery: trio.Nursery) -> None:
        self.name = name
        self.world = world
        self.state = State.UP
        self.identity = 1
        """Which server this is: another number after each restart."""
        self.epochs: dict[Hashable, dict[int, int]] = {}
        self.leased_by: dict[Hashable, int] = {}
        """Which server each partition was taken over on."""
        self.ledger = SimulatedLedger()
        self.lanes = SimulatedLanes()
        self.counters: Counter[str] = Counter()
        """The sink's table, ``id → n`` with ``merge = "add"``."""
        self.applied: list[tuple[TopicPartition, Hashable, int]] = []
        """Source, ordering key and offset of every record applied, in the order of commits."""
        self.keys = SimulatedKeys()
        self.repeated: set[tuple[TopicPartition, int]] = set()
        """Records that count as applied, since their key was applied for another."""
        self.marked: set[tuple[TopicPartition, int]] = set()
        """Source and offset of every record that was decided without being applied."""
        self.on_fold: Callable[[TopicPartition, int], None] = lambda _source, _watermark: None
        self.on_loss: Callable[[SimulatedServer, int], None] = lambda _server, _remaining: None
        self.locks = RowLocks()
        self.running: set[Request] = set()
        self._nursery = nursery

    # Its life

    def die(self, state: State) -> None:
        """Become unreachable; dead, it rolls back what runs and breaks every connection."""
        self.world.journal.note("%s: %s", self.name, state.value)
        self.state = state
        if state is State.DEAD:
            for request in sorted(self.running, key=lambda r: (r.name, r.transit, r.work)):
                request.scope.cancel()
                request.answer(None, ConnectionResetError("the server closed the connection"))

    def revive(self) -> None:
        if self.state is not State.UP:
            self.world.journal.note("%s: up", self.name)
            if self.state is State.DEAD:
                self.identity += 1
        self.state = State.UP

    def copied(self) -> Copy:
        """What a standby has of it at this moment."""
        return Copy(
            deepcopy(self.epochs), dict(self.leased_by), deepcopy(self.ledger),
            deepcopy(self.lanes), Counter(self.counters), list(self.applied), self.keys.copied(),
            set(self.marked),
        )  # fmt: skip

    def fall_back(self, copy: Copy) -> None:
        """Die, and come back as the standby: what was committed since the copy is gone."""
        lost = len(self.applied) - len(copy.applied)
        self.on_loss(self, len(copy.applied))
        self.die(State.DEAD)
        self.world.journal.note("%s: comes back without its last %d records", self.name, lost)
        self.epochs, self.leased_by, self.ledger = copy.epochs, copy.leased_by, copy.ledger
        self.lanes, self.counters, self.applied = copy.lanes, copy.counters, copy.applied
        self.keys, self.marked = copy.keys, copy.marked
        self.world.mark("commits lost")  # of a lane at least, or of an epoch

    # Requests

    def plan(self, name: str, rows: Sequence[Hashable], exclusive: bool, commit: Any) -> Request:
        """A request, with its fate drawn by the weather."""
        rng, weather, chance = self.world.rng, self.world.weather, self.world.chance
        request = Request(
            name, rows, exclusive, commit, rng.uniform(0.0005, 0.005), rng.uniform(0.001, 0.05)
        )
        if chance(weather.slow):
            request.work = rng.uniform(0.5, 8.0)
        if chance(weather.error):
            doubtful = chance(0.4)
            sqlstate = rng.choice(IN_DOUBT if doubtful else ROLLED_BACK)
            request.error = postgres_error(sqlstate)
            request.committed_first = doubtful and chance(0.5)
        elif chance(weather.lost):
            request.patience = rng.uniform(0.01, 2.0)
            request.answers = False
            request.arrives = chance(0.75)
            if chance(0.4):
                request.transit = request.patience + rng.uniform(0.0, 12.0)
        return request

    async def execute(self, request: Request) -> Any:
        """What a client does: send, wait for the answer, and hear of nothing but what it sees."""
        if self.state is State.DEAD:
            await trio.sleep(0.001)
            raise ConnectionRefusedError(f"{self.name} is not there")
        if self.state is State.SILENT:
            request.arrives, request.patience = False, TIMEOUT_SECONDS
        self._nursery.start_soon(self._serve, request, name=f"{self.name} {request.name}")
        try:
            with trio.move_on_after(request.patience):
                await request.answered.wait()
        except trio.Cancelled:
            if await self._survives_cancelling(request):
                return request.outcome()
            raise
        if not request.answered.is_set():
            if self.world.chance(0.5):
                raise ConnectionResetError(f"{self.name} did not answer")
            raise TimeoutError(f"{self.name} did not answer in time")
        return request.outcome()

    async def _survives_cancelling(self, request: Request) -> bool:
        """Cancelling is one edge: rolled back, or too late, or never heard of by the server."""
        if not self.world.chance(self.world.weather.cancel_commits):
            request.scope.cancel()
            return False
        if self.world.chance(0.5):
            return False  # it runs on, and nobody waits
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await request.answered.wait()
        return request.answered.is_set() and request.failure is None

    async def _serve(self, request: Request) -> None:
        if not request.arrives:
            return
        self.running.add(request)
        try:
            with request.scope:
                await trio.sleep(request.transit)
                if self.state is not State.UP:
                    return
                result, failure = await self._transact(request)
                await trio.sleep(request.transit if request.answers else 0.0)
                if request.answers and self.state is State.UP:
                    request.answer(result, failure)
        finally:
            self.running.discard(request)

    async def _transact(self, request: Request) -> tuple[Any, Exception | None]:
        try:
            async with self.locks.hold(request.rows, exclusive=request.exclusive):
                await trio.sleep(request.work)
                if request.error is not None and not request.committed_first:
                    return None, request.error
                return request.commit(), request.error
        except (asyncpg.PostgresError, Fenced) as error:
            return None, error


def postgres_error(sqlstate: str) -> asyncpg.PostgresError:
    """The exception that asyncpg raises for a server's error of that SQLSTATE."""
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(
        {"C": sqlstate, "M": f"simulated error {sqlstate}", "S": "ERROR"}
    )
    return error


class SimulatedDatabase:
    """A server as one instance reaches it; see `database.Database` for what each method does."""

    shape = Shape(("id", "n"))

    def __init__(self, server: SimulatedServer, awake: Gate) -> None:
        self.server = server
        self._awake = awake

    async def _call(
        self,
        name: str,
        rows: Sequence[Hashable],
        commit: Callable[[], T],
        *,
        exclusive: bool = False,
    ) -> T:
        await self._awake.passed()
        try:
            result: T = await self.server.execute(self.server.plan(name, rows, exclusive, commit))
        finally:
            await self._awake.passed()  # frozen: whatever came back is seen when it wakes
        return result

    async def ping(self) -> None:
        """What the breaker's probe asks."""
        await self._call("probe", [], lambda: None)

    async def take_over(self, claim: Claim, writers: int, under: Lease | None = None) -> TakenOver:
        key = key_of(claim)
        known = self.server.epochs.get(key, {})
        rows = [(key, writer) for writer in range(max(writers, len(known)))]
        commit = partial(self._take_over, key, writers, under)
        what = f"{claim.source}" if claim.lane is None else f"{claim.source} lane {claim.lane}"
        return await self._call(f"take over {what}", rows, commit, exclusive=True)

    def _take_over(self, key: tuple[Any, ...], writers: int, under: Lease | None) -> TakenOver:
        if under is not None:
            self.check_fence(under)
        epochs = self.server.epochs.setdefault(key, {})
        known = len(epochs)
        here = self.server.leased_by.get(key) == self.server.identity
        least = 0 if here else int(trio.current_time() * 1_000_000)  # as no predecessor has given
        for writer in range(max(writers, known)):
            epochs[writer] = max(epochs.get(writer, 0) + 1, least)
        self.server.leased_by[key] = self.server.identity
        epochs_now = sorted(epochs.values())
        lane = key[0].partition("#")[2]
        what = f"partition {key[-1]}" + (f" lane {lane}" if lane else "")
        self.server.world.journal.note(
            "%s: %s taken over, epochs %s", self.server.name, what, epochs_now
        )
        applied = attrs.evolve(self.server.ledger.known(key), owned_before=known > 0)
        found, last = self.server.lanes.known(key)
        if found:
            self.server.world.mark("taken over with lanes")
        return TakenOver([epochs[writer] for writer in range(writers)], applied, found, last)

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        return await self._guarded("write", lease, partial(self.commit_write, lease, records))

    def commit_write(self, lease: Lease, records: Sequence[Record]) -> int:
        """The fence, the keys, the data and the ledger's row, in one step."""
        self.check_fence(lease)
        self.apply_fresh(lease.claim, records)
        self.note_applied(lease.claim, records)
        return len(records)

    def apply_fresh(self, claim: Claim, records: Sequence[Record]) -> None:
        """The data of the records whose key is not another's, and their keys."""
        self.check_values(records)
        keys = self.server.keys
        selection = keys.select(claim, records)
        if selection.repeated:
            self.server.world.mark("key repeated")
            fresh = {record.offset for record in selection.fresh}
            self.server.repeated |= {(r.source, r.offset) for r in records if r.offset not in fresh}
        if selection.fresh:
            self.apply(selection.fresh)
        keys.claim(claim, selection)

    def check_fence(self, lease: Lease) -> None:
        if not self.is_valid(lease):
            self.server.world.mark("fenced")
            raise Fenced(f"{lease.claim.source}: writer {lease.writer} lost epoch {lease.epoch}")

    def is_valid(self, lease: Lease) -> bool:
        """Whether the epoch is the lease's, and this the server that gave it."""
        key = key_of(lease.claim)
        epoch = self.server.epochs.get(key, {}).get(lease.writer)
        return epoch == lease.epoch and self.given_here(lease)

    def given_here(self, lease: Lease) -> bool:
        """Whether this is the server that the partition was taken over on."""
        return self.server.leased_by.get(key_of(lease.claim)) == self.server.identity

    def apply(self, records: Sequence[Record]) -> None:
        """The data: refused as a whole where one record does not fit."""
        self.check_values(records)
        for record in records:
            self.server.counters[record.document.get("id")] += record.document.get("n")
            self.server.applied.append((record.source, record.ordering, record.offset))
        self.server.world.journal.note(
            "%s: applied %s %s", self.server.name, records[0].source, [r.offset for r in records]
        )

    def check_values(self, records: Sequence[Record]) -> None:
        if any(type(record.document.get("n")) is not int for record in records):
            raise asyncpg.DataError("invalid input syntax for type integer")
        if [record for record in records if self.server.world.refusals.refuses(record)]:
            raise postgres_error(SQLSTATE)

    def note_applied(self, claim: Claim, records: Sequence[Record]) -> None:
        self.server.ledger.note(key_of(claim), map(offset_of, records))

    async def probe(self) -> bool:
        await self._call("probe", [], lambda: None)
        return True

    async def mark(
        self, lease: Lease, records: Sequence[Record], why: DeadLetterReason | None = None
    ) -> None:
        del why
        await self._guarded("mark", lease, partial(self._mark, lease, records))

    def _mark(self, lease: Lease, records: Sequence[Record]) -> None:
        self.check_fence(lease)
        self.server.marked.update((record.source, record.offset) for record in records)
        self.note_applied(lease.claim, records)

    async def _guarded(self, name: str, lease: Lease, commit: Callable[[], T]) -> T:
        row = (key_of(lease.claim), lease.writer)
        return await self._call(f"{name} {lease.claim.source}", [row], commit)

    async def resolve(self, lease: Lease, records: Sequence[Record]) -> tuple[int, bool]:
        key = key_of(lease.claim)
        commit = partial(self._resolve, lease, [record.offset for record in records])
        name = f"resolve {lease.claim.source}"
        return await self._call(name, [(key, lease.writer)], commit, exclusive=True)

    def _resolve(self, lease: Lease, offsets: Sequence[int]) -> tuple[int, bool]:
        self.check_fence(lease)
        key = key_of(lease.claim)
        self.server.epochs[key][lease.writer] += 1
        found = self.server.ledger.has(key, offsets)
        self.server.world.mark("in doubt: applied" if found else "in doubt: not applied")
        return self.server.epochs[key][lease.writer], found

    async def fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        await self._call("fold", [], partial(self._fold, list(watermarks)))

    def _fold(self, watermarks: Sequence[tuple[Lease, int]]) -> None:
        for lease, watermark in watermarks:
            if not self.is_valid(lease):
                self.server.world.mark("fold of a void lease")
                continue
            if watermark > 0 and lease.claim.lane is None:
                self.server.on_fold(lease.claim.source, watermark)
            self.server.ledger.fold(key_of(lease.claim), watermark)

    async def open_lane(self, lease: Lease, lane: Lane) -> None:
        await self._guarded("open a lane of", lease, partial(self.commit_open, lease, lane))

    def commit_open(self, lease: Lease, lane: Lane) -> None:
        self.check_fence(lease)
        self.server.lanes.open(key_of(lease.claim), lane)
        self.server.world.mark(f"lane opened: {lane.reason.value}")
        self._note(lease, f"lane {lane.number} opened at {lane.from_offset} for {lane.rule}")

    async def note_failure(self, lease: Lease, number: int, failure: LaneFailure | None) -> None:
        commit = partial(self.commit_note, lease, number, failure)
        await self._guarded("note a failure of", lease, commit)

    def commit_note(self, lease: Lease, number: int, failure: LaneFailure | None) -> None:
        self.check_fence(lease)
        self.server.lanes.note(key_of(lease.claim), number, failure)
        self.server.world.mark("lane goes on" if failure is None else "lane held up")
        self._note(lease, f"lane {number}: {failure}")

    async def close_lane(self, lease: Lease, number: int, until: int) -> None:
        commit = partial(self.commit_close, lease, number, until)
        await self._guarded("close a lane of", lease, commit)

    def commit_close(self, lease: Lease, number: int, until: int) -> None:
        self.check_fence(lease)
        self.server.lanes.close(key_of(lease.claim), number, until)
        self.server.world.mark("lane closed")
        self._note(lease, f"lane {number} closed at {until}")

    async def forget_lanes(self, lease: Lease) -> list[int]:
        return await self._guarded("forget lanes of", lease, partial(self.commit_forget, lease))

    def commit_forget(self, lease: Lease) -> list[int]:
        self.check_fence(lease)
        server, key = self.server, key_of(lease.claim)
        gone, left = server.lanes.forget(key, server.ledger.known(key).watermark or 0)
        for number in gone:
            own = key_of(attrs.evolve(lease.claim, lane=number))
            server.ledger.forget(own)
            server.epochs.pop(own, None)
            server.leased_by.pop(own, None)
            self.server.world.mark("lane forgotten")
            self._note(lease, f"lane {number} forgotten")
        return left

    def _note(self, lease: Lease, what: str) -> None:
        self.server.world.journal.note("%s: %s %s", self.server.name, lease.claim.source, what)

    async def voided(self, leases: Sequence[Lease]) -> list[Lease]:
        return await self._call("look at leases", [], partial(self._voided, leases))

    def _voided(self, leases: Sequence[Lease]) -> list[Lease]:
        return [lease for lease in leases if not self.given_here(lease)]


def _conforms(database: SimulatedDatabase) -> Transactions:
    return database
