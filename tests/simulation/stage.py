"""A stage for single scenes: one topic of one partition, one database, and no weather but the test's."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any, ParamSpec

import orjson
import trio
import trio.testing

from pipeline.consumer.channels import KeyChannels
from pipeline.consumer.partition import PartitionTask
from pipeline.consumer.topic_watch import TopicWatch
from pipeline.observe.health import ProgressWatch
from pipeline.observe.metrics import Metrics
from pipeline.postgres.ledger.lease import key_of
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from pipeline.records.record import TopicPartition
from tests.simulation.instance import Instance, Setup
from tests.simulation.kafka import Broker, Message
from tests.simulation.postgres import Request, SimulatedDatabase, SimulatedServer
from tests.simulation.refusals import Refusals
from tests.simulation.world import World

SOURCE = TopicPartition("events", 0)
DRAIN_SECONDS = 2.0
POLL_AT_ONCE = 20
BATCH = 2
WRITERS = 2
PATIENCE = 60.0
"""Virtual seconds after which a scene has failed."""


P = ParamSpec("P")


def scene(play: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A test in virtual time, which jumps to the next event whenever every task waits."""

    @wraps(play)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(partial(play, *args, **kwargs), clock=clock)

    return run


class SteppedServer(SimulatedServer):
    """A server whose writes take as long as the test says: on their way, and running."""

    transit = 0.001
    work = 0.01

    def plan(self, name: str, rows: Sequence[Hashable], exclusive: bool, commit: Any) -> Request:
        request = super().plan(name, rows, exclusive, commit)
        request.transit = request.work = 0.001
        if name.startswith("write"):
            request.transit, request.work = self.transit, self.work
        return request

    @property
    def writing(self) -> int:
        return sum(request.name.startswith("write") for request in self.running)


LIMITS: dict[str, Any] = {
    "max_batch": BATCH,
    "max_buffered": 1000,
    "max_buffered_bytes": 10**6,
    "max_batch_bytes": 10**6,
    "make_database": SimulatedDatabase,
}


class Stage:
    """What a scene has at hand."""

    def __init__(self, nursery: trio.Nursery, **limits: Any) -> None:
        self.world = World(0, random.Random(0))
        self.world.refusals = Refusals(random.Random(0))
        self.broker = Broker(self.world, [SOURCE])
        self.server = SteppedServer("db0", self.world, nursery)
        self.commits: list[int] = []
        self.broker.on_commit = lambda _source, offset: self.commits.append(offset)
        self.metrics = Metrics()
        self._nursery = nursery
        self._setup = Setup(
            decoder=partial(json_decoder, [Path.parse("id")]),
            make_channels=KeyChannels,
            connections=WRITERS,
            **{**LIMITS, **limits},
            max_poll_records=POLL_AT_ONCE,
            drain_deadline=DRAIN_SECONDS,
            handler=False,
            metrics=self.metrics,
        )

    def start(self) -> Instance:
        """Start an instance."""
        servers = {"db0": self.server}
        instance = Instance(1, self.world, self.broker, servers, self._setup)
        self._nursery.start_soon(instance.run)
        return instance

    async def started(self) -> tuple[Instance, PartitionTask]:
        """Start an instance; return it and its task of the partition, as soon as that runs."""
        instance = self.start()
        return instance, await self.task_of(instance)

    def watch_topics(self, instance: Instance) -> ProgressWatch:
        """Let an instance look at its topics' ids, as a whole program does; what is told of them."""
        health = ProgressWatch(trio.current_time, lambda: "")
        supervisor = instance.supervisor
        watch = TopicWatch(instance.consumer, supervisor.tasks.values, supervisor.replace, health)
        self._nursery.start_soon(watch.run)
        return health

    def produce(self, count: int, padding: int = 0) -> None:
        """Records of a key each, so that any of them may be in flight together."""
        first = self.broker.end(SOURCE)
        self.broker.produce(
            SOURCE,
            [
                Message(offset, orjson.dumps({"id": f"k{offset}", "n": 1, "pad": "x" * padding}))
                for offset in range(first, first + count)
            ],
        )

    async def task_of(self, instance: Instance) -> PartitionTask:
        """The instance's task of the partition, as soon as it runs."""
        await until(lambda: SOURCE in instance.supervisor.tasks)
        task = instance.supervisor.tasks[SOURCE]
        await until(lambda: task.claim is not None)
        return task

    def take_away(self, task: PartitionTask) -> None:
        """Raise the partition's epochs, as another instance that takes it over."""
        assert task.claim is not None
        epochs = self.server.epochs[key_of(task.claim)]
        epochs.update({writer: epoch + 1 for writer, epoch in epochs.items()})

    def expel(self, instance: Instance) -> None:
        """The group forgets a member, which does not know yet."""
        assert instance.consumer.member is not None
        self.broker.leave(instance.consumer.member)

    @property
    def applied(self) -> list[int]:
        """The offsets applied, sorted, each as often as it was."""
        return sorted(offset for _, _, offset in self.server.applied)

    @property
    def committed(self) -> int | None:
        return self.broker.committed.get(SOURCE, (None, ""))[0]


@asynccontextmanager
async def open_stage(**limits: Any) -> AsyncIterator[Stage]:
    """A stage, perhaps with other limits than `LIMITS`.

    At its end everything on it is cancelled, and no law may be broken.
    """
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery, **limits)
        yield stage
        nursery.cancel_scope.cancel()
    assert not stage.world.violations


async def until(condition: Callable[[], bool]) -> None:
    """Wait in virtual time."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 (any condition, and the time is virtual)
            await trio.sleep(0.01)
