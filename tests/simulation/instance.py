"""One instance of the pipeline over the simulated servers: everything between them is the real thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from pipeline.config.model import ShardConfig
from pipeline.consumer.assignment import Supervisor
from pipeline.consumer.buffer_budget import BufferBudget
from pipeline.consumer.channels import Channels
from pipeline.consumer.partition_context import LaneContext, PartitionContext
from pipeline.consumer.starting_offset import LogChange
from pipeline.contracts.commit_metadata import ledger
from pipeline.contracts.rule import RuleKind
from pipeline.contracts.setback import Setback
from pipeline.contracts.store import Claim, PartitionStore
from pipeline.contracts.wish import AnyWish
from pipeline.contracts.wishes import Wishes
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Session
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.shard_store import ShardStore
from pipeline.postgres.store.store_router import StoreRouter
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.formats.json import Decoder
from pipeline.records.path import Path
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape
from pipeline.records.tenant import tenant_reader
from pipeline.runtime.backoff import Backoff
from tests.simulation.kafka import Broker, SimulatedConsumer
from tests.simulation.lane_records import SimulatedLaneRecords
from tests.simulation.laws import HoldLaw, PauseLaw
from tests.simulation.postgres import SimulatedDatabase, SimulatedServer
from tests.simulation.world import Gate, World

BACKOFF = Backoff(0.05, 1.0)


@attrs.frozen
class Setup:
    """What all instances of a history share."""

    decoder: Callable[[Shape | None], Decoder]
    make_channels: Callable[[], Channels]
    connections: int
    max_batch: int
    max_buffered: int
    max_buffered_bytes: int
    max_batch_bytes: int
    max_poll_records: int
    drain_deadline: float
    handler: bool
    """Whether batches are sized as a handler's are."""
    make_database: Callable[[SimulatedServer, Gate], SimulatedDatabase]
    metrics: Metrics
    lanes_of: RuleKind = "key"
    max_lanes: int = 64
    max_buffered_per_key: int | None = None


class SimulatedShard(Shard):
    """A shard whose slots and breaker are the real ones, and whose connections are simulated."""

    def __init__(self, name: str, connections: int, metrics: Metrics, probe: SimulatedDatabase):
        config = ShardConfig(name=name, dsn="", connections=connections)
        super().__init__(config, Session("simulation"), metrics, BACKOFF)
        self._probe = probe

    async def serve(self) -> None:
        await self.breaker.watch(self._probe.ping)

    def drop_idle(self) -> None:
        """There are no idle connections here."""


class SimulatedDeadLetters:
    """The dead letter topic: what is on it is in the world's ``dead_letters``."""

    def __init__(self, world: World, awake: Gate, may_wait: Callable[[Record], bool]) -> None:
        self._world = world
        self._awake = awake
        self._may_wait = may_wait

    async def put(self, record: Record, rejection: DeadLetterReason) -> None:
        await self._awake.passed()
        await trio.sleep(self._world.rng.uniform(0.001, 0.02))
        self._world.journal.note("dead letter: %s: %s", record, rejection.reason)
        law = self._world.refusals.broken_law(record, rejection, self._may_wait(record))
        if law is not None:
            self._world.violated(law)
        self._world.dead_letters.add((record.source, record.offset))
        await trio.sleep(self._world.rng.uniform(0.001, 0.02))
        await self._awake.passed()


class MarkedSupervisor(Supervisor):
    """The real one, which marks the rare ways that its partitions go."""

    world: World

    def _start(self, source: TopicPartition, after: LogChange | None = None) -> None:
        if source in self.tasks:
            anew = self.tasks[source].server_changed
            self.world.mark("taken over anew" if anew else "retaken")
        super()._start(source, after)

    async def _drain(self, sources: Iterable[TopicPartition]) -> None:
        tasks = [self.tasks[source] for source in sources if source in self.tasks]
        await super()._drain([task.source for task in tasks])
        if any(task.cut_off for task in tasks):
            self.world.mark("drained past the deadline")

    async def _abandon(self, sources: Sequence[TopicPartition]) -> None:
        self.world.mark("lost")
        await super()._abandon(sources)


class WatchedRouter(StoreRouter):
    """The real one, whose partitions tell the law of each batch that begins."""

    laws: tuple[PauseLaw, HoldLaw]

    async def open(self, claim: Claim) -> PartitionStore:
        partition = await super().open(claim)
        apply = partition.apply

        async def watched(writer: int, records: Sequence[Record]) -> Setback | None:
            pauses, holds = self.laws
            pauses.begins(claim.source)
            holds.begins(records)
            return await apply(writer, records)

        partition.apply = watched  # type: ignore[method-assign]  # the object is this claim's own
        return partition


class Instance:
    """A supervisor, its store and its consumer."""

    def __init__(
        self,
        number: int,
        world: World,
        broker: Broker,
        servers: Mapping[str, SimulatedServer],
        setup: Setup,
    ) -> None:
        self.number = number
        self.world = world
        self.awake = Gate()
        self.consumer = SimulatedConsumer(broker, self.awake, setup.max_poll_records)
        self.shards = [self._shard(server, setup) for server in servers.values()]
        tenant_of = tenant_reader(Path.parse("tenant"))
        lanes = LaneContext(
            SimulatedLaneRecords(broker, self.awake, self.consumer.connected),
            setup.lanes_of, tenant_of, setup.max_lanes, setup.max_buffered_per_key,
            trio.current_time,
        )  # fmt: skip

        def may_wait(record: Record) -> bool:
            return lanes.rule_of(record) is not None

        dead_letters = SimulatedDeadLetters(world, self.awake, may_wait)
        names = sorted(servers)
        stores = {
            shard.name: ShardStore(
                shard,
                partial(self._connect, setup, servers[shard.name]),
                dead_letters,
                BatchSizers(setup.max_batch, bounded=setup.handler),
                BACKOFF,
                trio.current_time,
                policy=world.refusals.policy(may_wait),
            )
            for shard in self.shards
        }
        self.wishes = Wishes(trio.current_time)

        def shard_of(partition: int) -> str:
            return names[partition % len(names)]

        store = WatchedRouter(stores, shard_of)
        self.law = PauseLaw(world, self.wishes, shard_of)
        self.hold_law = HoldLaw(world, self.wishes, tenant_of)
        store.laws = (self.law, self.hold_law)
        settings = PartitionContext(
            consumer=self.consumer,
            store=store,
            group="group",
            decoder=setup.decoder,
            make_channels=setup.make_channels,
            metrics=setup.metrics,
            budget=BufferBudget(
                setup.max_buffered,
                10 * setup.max_buffered,
                setup.max_buffered_bytes,
                setup.max_batch,
                setup.max_batch_bytes,
            ),
            wishes=self.wishes,
            shard_of=shard_of,
            lanes=lanes,
        )
        self.supervisor = MarkedSupervisor(
            self.consumer, store, settings, setup.metrics, drain_deadline=setup.drain_deadline,
            describe=lambda task: ledger(task.claim.topic_id) if task.claim else "",
        )  # fmt: skip
        self.supervisor.world = world
        self.crashed = False
        self.leaving = False
        self.ended = trio.Event()
        self._scope = trio.CancelScope()

    def _shard(self, server: SimulatedServer, setup: Setup) -> SimulatedShard:
        probe = setup.make_database(server, self.awake)
        return SimulatedShard(server.name, setup.connections, setup.metrics, probe)

    async def _connect(self, setup: Setup, server: SimulatedServer) -> Transactions:
        database = setup.make_database(server, self.awake)
        await database.ping()  # as the ledger's migration and the reading of the catalog
        return database

    @property
    def alive(self) -> bool:
        return not (self.ended.is_set() or self.crashed or self.leaving)

    def learn(self, wish: AnyWish) -> None:
        """Hear of a pause or a hold, as by the control topic."""
        for law in (self.law, self.hold_law):
            law.known[wish.id] = trio.current_time()
        self.wishes.put(wish)

    async def run(self) -> None:
        """Run until `Supervisor.stop` or `crash`; a failure is a broken law."""
        try:
            async with trio.open_nursery() as nursery:
                for shard in self.shards:
                    nursery.start_soon(shard.serve)
                with self._scope:
                    await self.supervisor.run()
                nursery.cancel_scope.cancel()
        except Exception as error:  # told with the history, as whatever went wrong
            self.world.violated(f"instance {self.number} failed: {describe(error)}")
        finally:
            self.ended.set()
        self._check_nothing_is_left()

    def crash(self) -> None:
        """End at once, as killed: nothing is drained, committed, or told to the group."""
        self.crashed = True
        self.consumer.kill()
        self.awake.open()
        self._scope.cancel()

    def _check_nothing_is_left(self) -> None:
        for shard in self.shards:
            if shard.limiter.slots_taken:
                self.world.violated(
                    f"instance {self.number}: {shard.limiter.slots_taken} slots are left"
                )
        for task in self.supervisor.tasks.values():
            if not task.ended.is_set():
                self.world.violated(f"instance {self.number}: the task of {task.source} is left")


def describe(error: BaseException) -> str:
    """An exception, those in a group, and where each was raised."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(describe, error.exceptions))
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error} ({place})"
