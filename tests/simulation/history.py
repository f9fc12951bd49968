"""A history: what happens to a pipeline in some virtual minute or two, drawn from one seed.

Instances join, leave, crash, freeze past their session and wake, lose Kafka while they reach Postgres;
databases die and fall silent; transactions fail, take long, are cancelled, lose their answers. Then
everything heals, one instance is left to finish, and the laws are checked.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import orjson
import trio
import trio.testing

from pipeline.consumer.assignment import LEASE_SECONDS
from pipeline.consumer.channels import KeyChannels
from pipeline.consumer.multi_key_channels import MultiKeyChannels
from pipeline.contracts.rule import Rule
from pipeline.contracts.wish import Scope
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from pipeline.records.record import TopicPartition
from tests.simulation.instance import Instance, Setup
from tests.simulation.kafka import Broker, Message
from tests.simulation.keys import HEADER
from tests.simulation.laws import CommitLaw, Expected, FoldLaw, check_end, open_lanes
from tests.simulation.operators import Operators
from tests.simulation.postgres import SimulatedDatabase, SimulatedServer, State
from tests.simulation.world import Gate, World, waiting_tasks

PARTITIONS = 4
SHARDS = ("db0", "db1")
SESSION_SECONDS = 6.0
TENANTS = 3
FINISH_SECONDS = 300.0
"""Virtual time in which a healed history must be finished."""

MakeDatabase = Callable[[SimulatedServer, Gate], SimulatedDatabase]


@attrs.frozen
class Outcome:
    """What became of a history: empty ``violations`` where all laws held."""

    seed: int
    violations: tuple[str, ...]
    journal: str
    marks: Mapping[str, int]
    """How often each rare path was taken."""
    seconds: float
    """How long it took, in virtual seconds."""

    def __str__(self) -> str:
        laws = "\n".join(self.violations)
        return f"seed {self.seed}\n{self.journal}\n{laws}\nseed {self.seed}"


def run_history(
    seed: int, make_database: MakeDatabase = SimulatedDatabase, *, keep: bool = False
) -> Outcome:
    """Run the history of a seed, always the same one; ``keep`` its journal whatever comes of it."""
    world = World(seed, random.Random(seed))
    random.seed(seed)  # the back-off's jitter
    # Trio shuffles the tasks that are ready; it has these two for tests that need one order.
    core: Any = trio._core._run
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    logger = logging.getLogger("pipeline")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        clock = trio.testing.MockClock(autojump_threshold=0)
        seconds = trio.run(History(world, make_database).run, clock=clock)
    finally:
        logger.setLevel(level)
        core._ALLOW_DETERMINISTIC_SCHEDULING = False
    journal = str(world.journal) if world.violations or keep else ""
    return Outcome(seed, tuple(world.violations), journal, dict(world.marks), seconds)


class History:
    """The plan of one seed, and the actors that carry it out."""

    def __init__(self, world: World, make_database: MakeDatabase) -> None:
        self.world = world
        self.rng = world.rng
        self.sources = [TopicPartition("events", number) for number in range(PARTITIONS)]
        self.broker = Broker(world, self.sources)
        self.expected = Expected()
        self.several_keys = world.chance(0.25)
        self.setup = self._setup(make_database)
        self.instances: list[Instance] = []
        self.servers: dict[str, SimulatedServer] = {}
        self._keys = self.rng.randint(2, 12)
        # Of its own, so that records with keys leave all else of a history as it is.
        self._keyed = random.Random(f"idempotency keys {world.seed}")
        self._most_keyed = self._keyed.choice([0.0, 0.0, 0.3, 0.9])
        self.healing = False
        self._nursery: trio.Nursery
        self._actions: list[Callable[[], None]] = [
            self._joins,
            self._leaves,
            self._crashes,
            self._freezes,
            self._freezes,
            self._loses_kafka,
            self._shard_goes,
            self._breaks_connections,
            self._loses_commits,
            self._pauses,
            self._pauses,
            self._holds,
            self._holds,
        ]
        self.operators = Operators(
            world, self.instances,
            [
                *(Scope(shard=name) for name in SHARDS),
                Scope(topic="events"),
                *(Scope(topic="events", partition=s.partition) for s in self.sources),
            ],
            self._rules(),
        )  # fmt: skip

    def _rules(self) -> list[Rule]:
        """Whom operators may mean: tenants; and, where records have one key, the hottest ones of one."""
        tenants = [Rule("tenant", f"t{number}") for number in range(TENANTS)]
        hottest = [Rule("key", f"{source.partition}-0") for source in self.sources]
        return tenants if self.several_keys else [*tenants[:2], *hottest]

    def _setup(self, make_database: MakeDatabase) -> Setup:
        rng = self.rng
        paths = ["id", "user"] if self.several_keys else ["id"]
        return Setup(
            decoder=partial(json_decoder, [Path.parse(path) for path in paths]),
            make_channels=MultiKeyChannels if self.several_keys else KeyChannels,
            connections=rng.randint(1, 3),
            max_batch=rng.choice([1, 3, 10, 30]),
            max_buffered=rng.choice([5, 20, 60]),
            max_buffered_bytes=rng.choice([200, 10**6]),
            max_batch_bytes=rng.choice([100, 10**6]),
            max_poll_records=rng.choice([5, 20, 50]),
            drain_deadline=rng.choice([0.2, 1.0, 3.0]),
            handler=rng.choice([False, False, True]),
            lanes_of="tenant" if self.several_keys else "key",
            max_lanes=rng.choice([1, 4, 64]),
            max_buffered_per_key=rng.choice([None, 1, 4]),
            make_database=make_database,
            metrics=Metrics(),
        )

    async def run(self) -> float:
        """Carry the history out; returns the virtual seconds that it took."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.servers = {name: SimulatedServer(name, self.world, nursery) for name in SHARDS}
            server_of = {
                s.partition: self.servers[SHARDS[s.partition % len(SHARDS)]] for s in self.sources
            }
            law = CommitLaw(self.world, self.broker, server_of)
            self.broker.on_commit = law.check
            for server in self.servers.values():
                server.on_fold = FoldLaw(self.world, self.broker).check
                server.on_loss = law.lose
            self._prepare()
            async with trio.open_nursery() as actors:
                actors.start_soon(self._produce)
                actors.start_soon(self._trouble)
            self._heal()
            with trio.move_on_after(FINISH_SECONDS) as limit:
                async with trio.open_nursery() as ruling:
                    if self.world.refusals.share:
                        ruling.start_soon(self.operators.rule, self.servers.values())
                    await self._finish()
                    ruling.cancel_scope.cancel()
            if limit.cancelled_caught:
                self.world.violated(f"no progress\n{waiting_tasks()}")
                nursery.cancel_scope.cancel()
        if not self.world.violations:  # what is cut short does not reach the end's state
            check_end(self.world, self.broker, server_of, self.expected, self.operators.dropped)
        return trio.current_time()

    def _prepare(self) -> None:
        rng, weather = self.rng, self.world.weather
        for source in self.sources:
            self.broker.starts[source] = rng.choice([0, 0, 0, 40])
        weather.error = rng.choice([0.0, 0.05, 0.2])
        weather.lost = rng.choice([0.0, 0.05, 0.2])
        weather.slow = rng.choice([0.0, 0.02, 0.1])
        weather.cancel_commits = rng.choice([0.0, 0.5])
        weather.refused = rng.choice([0.0, 0.1, 0.5])
        for _ in range(rng.randint(1, 2)):
            self.join()

    # The producer

    async def _produce(self) -> None:
        left = self.rng.randint(60, 200)
        poison, holes = self.rng.choice([0.0, 0.0, 0.03]), self.rng.choice([0.0, 0.0, 0.1])
        while left > 0:
            source = self.rng.choice(self.sources)
            count = min(left, self.rng.randint(1, 40))
            left -= count
            offset = self.broker.end(source)
            messages = []
            for _ in range(count):
                offset += self.rng.randint(1, 4) if self.world.chance(holes) else 0
                messages.append(self._message(source, offset, poison))
                offset += 1
            self.broker.produce(source, messages)
            await trio.sleep(self.rng.uniform(0.0, 3.0))

    def _message(self, source: TopicPartition, offset: int, poison: float) -> Message:
        number = int(self._keys * self.rng.random() ** 2)  # the lower, the more frequent
        row = f"{source.partition}-{number}"
        tenant = f"t{number % TENANTS}"  # which determines both keys
        document = {
            "id": row,
            "user": f"{tenant}-{self.rng.randrange(2)}",
            "tenant": tenant,
            "n": 1,
        }
        headers = self._headers(source, offset)
        if self.world.chance(poison):
            self.expected.poison.add((source, offset))
            if self.world.chance(0.3):
                return Message(offset, b"{", headers=headers)
            document["n"] = "poison"
        else:
            self.expected.good.setdefault(source, {})[offset] = row
            self.world.refusals.draw((source, offset))
        return Message(offset, orjson.dumps(document), headers=headers)

    def _headers(self, source: TopicPartition, offset: int) -> list[tuple[str, bytes]]:
        """Now and then an idempotency key, which records of other rows and partitions may have too."""
        if self._keyed.random() >= self._most_keyed:
            return []
        key = f"k{self._keyed.randrange(40)}"
        self.expected.keys[source, offset] = key
        return [(HEADER, key.encode())]

    # Trouble

    async def _trouble(self) -> None:
        for _ in range(self.rng.randint(1, 7)):
            await trio.sleep(self.rng.uniform(0.0, 5.0))
            self.rng.choice(self._actions)()
        await trio.sleep(self.rng.uniform(0.0, 10.0))

    def join(self) -> None:
        """Start an instance."""
        number = len(self.instances) + 1
        instance = Instance(number, self.world, self.broker, self.servers, self.setup)
        self.instances.append(instance)
        self.operators.tell(instance)
        self.world.journal.note("instance %d starts", number)
        self._nursery.start_soon(instance.run, name=f"instance {number}")

    def _one(self) -> Instance | None:
        alive = [instance for instance in self.instances if instance.alive]
        return self.rng.choice(alive) if alive else None

    def _joins(self) -> None:
        if sum(instance.alive for instance in self.instances) < 3:
            self.join()

    def _leaves(self) -> None:
        if instance := self._one():
            self._nursery.start_soon(self.leave, instance)

    async def leave(self, instance: Instance) -> None:
        """Stop an instance, as SIGTERM does."""
        self.world.journal.note("instance %d stops", instance.number)
        instance.leaving = True
        await instance.supervisor.stop()
        self.world.journal.note("instance %d has stopped", instance.number)

    def _crashes(self) -> None:
        if instance := self._one():
            self.world.journal.note("instance %d crashes", instance.number)
            self._nursery.start_soon(self._session_ends, instance)
            instance.crash()

    async def _session_ends(self, instance: Instance) -> None:
        member = instance.consumer.member
        await trio.sleep(SESSION_SECONDS)
        if member is not None:
            self.broker.leave(member)

    def _freezes(self) -> None:
        if instance := self._one():
            self._nursery.start_soon(self._cut, instance, instance.awake, "freezes")

    def _loses_kafka(self) -> None:
        if instance := self._one():
            self._nursery.start_soon(
                self._cut, instance, instance.consumer.connected, "loses kafka"
            )

    async def _cut(self, instance: Instance, gate: Gate, what: str) -> None:
        """Close a gate for a while; the group forgets a member that is behind it for too long."""
        if gate.closed:
            return
        seconds = self.rng.uniform(0.5, 2.5 * SESSION_SECONDS)
        self.world.journal.note("instance %d %s for %.1f s", instance.number, what, seconds)
        gate.close()
        member = instance.consumer.member
        await trio.sleep(min(seconds, SESSION_SECONDS))
        if seconds > SESSION_SECONDS:
            if member is not None:
                self.broker.leave(member)
            await trio.sleep(seconds - SESSION_SECONDS)
        gate.open()
        self.world.journal.note("instance %d is back", instance.number)

    def _shard_goes(self) -> None:
        server = self.servers[self.rng.choice(SHARDS)]
        if server.state is State.UP:
            self._nursery.start_soon(self._outage, server)

    async def _outage(self, server: SimulatedServer) -> None:
        server.die(self.rng.choice([State.DEAD, State.SILENT]))
        await trio.sleep(self.rng.uniform(0.1, 12.0))
        server.revive()

    def _breaks_connections(self) -> None:
        server = self.servers[self.rng.choice(SHARDS)]
        if server.state is State.UP:
            server.die(State.DEAD)
            server.revive()

    def _loses_commits(self) -> None:
        server = self.servers[self.rng.choice(SHARDS)]
        if server.state is State.UP:
            self._nursery.start_soon(self._failover, server)

    async def _failover(self, server: SimulatedServer) -> None:
        """To a standby that is some way behind, but knows of every partition.

        One that was never owned there may be a partition that was moved to a new database; the
        pipeline can't tell, and says so.
        """
        if sum("#" not in str(key) for key in server.leased_by) < PARTITIONS // len(SHARDS):
            return
        copy = server.copied()
        await trio.sleep(self.rng.uniform(0.0, 4.0))
        if server.state is not State.UP or self.healing:
            return
        server.fall_back(copy)
        await trio.sleep(self.rng.uniform(0.0, 5.0))
        server.revive()

    def _pauses(self) -> None:
        if not self.healing:
            self._nursery.start_soon(self.operators.pause)

    def _holds(self) -> None:
        if not self.healing:
            self._nursery.start_soon(self.operators.hold)

    # The end

    def _heal(self) -> None:
        self.world.journal.note("everything heals")
        self.healing = True
        self.world.weather.clear()
        for server in self.servers.values():
            server.revive()

    async def _finish(self) -> None:
        """One instance is left; it applies what is there, commits it, and stops."""
        for instance in self.instances:
            await instance.awake.passed()
            await instance.consumer.connected.passed()
        leaving = [instance for instance in self.instances if instance.alive]
        keep = leaving.pop() if leaving and self.world.chance(0.7) else None
        for instance in leaving:
            self._nursery.start_soon(self.leave, instance)
        if keep is None:
            self.join()
            keep = self.instances[-1]
        if self.world.marks["commits lost"]:
            await trio.sleep(2 * LEASE_SECONDS)  # idle partitions notice then
        while not self.world.violations and self._unfinished():  # noqa: ASYNC110 (of much)
            await trio.sleep(0.5)
        await self.leave(keep)
        for instance in self.instances:
            await instance.ended.wait()

    def _unfinished(self) -> bool:
        """Whether something is not committed, or waits in a lane."""
        behind = any(
            self.broker.committed.get(s, (self.broker.starts[s], ""))[0] != self.broker.end(s)
            for s in self.sources
        )
        return behind or any(map(open_lanes, self.servers.values()))
