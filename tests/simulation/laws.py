"""What must hold of every history."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping

import attrs
import trio

from pipeline.contracts.wishes import Wishes
from pipeline.records.record import TopicPartition
from tests.simulation.kafka import Broker
from tests.simulation.keys import KeyOf, check_keys
from tests.simulation.postgres import SimulatedServer
from tests.simulation.world import World


@attrs.define
class Expected:
    """What the producer knows of its records."""

    good: dict[TopicPartition, dict[int, str]] = attrs.field(factory=dict)
    """The row that each record that can be applied adds 1 to, by offset."""
    poison: set[tuple[TopicPartition, int]] = attrs.field(factory=set)
    keys: dict[tuple[TopicPartition, int], str] = attrs.field(factory=dict)
    """The idempotency keys of the records that have one, by offset."""


class CommitLaw:
    """Offsets committed to Kafka: never beyond what is not decided, never going back."""

    def __init__(self, world: World, broker: Broker, server_of: Mapping[int, SimulatedServer]):
        self._world = world
        self._broker = broker
        self._server_of = server_of
        self._seen: dict[TopicPartition, int] = {}
        self._applied: set[tuple[TopicPartition, int]] = set()
        self._read: Counter[str] = Counter()

    def check(self, source: TopicPartition, offset: int) -> None:
        """Called for every offset that the broker takes."""
        former = self._seen.get(source, self._broker.starts[source])
        if offset < former:
            self._world.violated(f"{source}: the committed offset went back: {former}, {offset}")
        self._update(self._server_of[source.partition])
        decided = self._applied | self._world.dead_letters
        decided |= self._server_of[source.partition].repeated
        below = [m.offset for m in self._broker.logs[source] if former <= m.offset < offset]
        missing = [number for number in below if (source, number) not in decided]
        if missing:
            self._world.violated(f"{source}: {offset} was committed, but not applied: {missing}")
        self._seen[source] = offset

    def lose(self, server: SimulatedServer, remaining: int) -> None:
        """A server is about to lose all but the first ``remaining`` of what it applied.

        What it acknowledged counts as decided all the same: an instance that has not noticed may still
        commit it, and whoever notices goes back.
        """
        self._update(server)
        self._read[server.name] = remaining

    def _update(self, server: SimulatedServer) -> None:
        fresh = server.applied[self._read[server.name] :]
        self._read[server.name] += len(fresh)
        self._applied.update((source, offset) for source, _, offset in fresh)


class PauseLaw:
    """No batch of a partition begins once the instance knows of a pause that covers it."""

    def __init__(self, world: World, wishes: Wishes, shard_of: Callable[[int], str]) -> None:
        self._world = world
        self._wishes = wishes
        self._shard_of = shard_of
        self.known: dict[str, float] = {}
        """When the instance learnt of each pause: what begins in that same moment began before."""

    def begins(self, source: TopicPartition) -> None:
        """Called for every batch that a partition's writers begin."""
        shard = self._shard_of(source.partition)
        for pause in self._wishes.pauses():
            if pause.what.covers(source, shard) and trio.current_time() > self.known[pause.id]:
                self._world.violated(f"{source}: a batch begins, but {pause.what} is paused")


class FoldLaw:
    """Watermarks folded into a ledger: Kafka has them already, so neither looks set back."""

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self._broker = broker

    def check(self, source: TopicPartition, watermark: int) -> None:
        """Called for every watermark that a database folds."""
        committed, _ = self._broker.committed.get(source, (self._broker.starts[source], ""))
        if watermark > committed:
            self._world.violated(f"{source}: {watermark} was folded, {committed} is committed")


def check_end(
    world: World, broker: Broker, server_of: Mapping[int, SimulatedServer], expected: Expected
) -> None:
    """The state when everything has ended, against what was produced."""
    servers = {server.name: server for server in server_of.values()}
    for name, server in servers.items():
        mine = [s for s in broker.logs if server_of[s.partition] is server]
        _check_applied(world, server, {s: expected.good.get(s, {}) for s in mine}, expected.keys)
        _check_order(world, server)
        if server.locks.held or server.running:
            world.violated(f"{name}: {server.locks.held} locks, {len(server.running)} running")
    if world.dead_letters != expected.poison:
        wrong = sorted(world.dead_letters ^ expected.poison)
        world.violated(f"dead letters are not the poison records: {wrong}")
    for source in broker.logs:
        committed = broker.committed.get(source, (broker.starts[source], ""))[0]
        if committed != broker.end(source):
            world.violated(f"{source}: committed {committed} of {broker.end(source)}")


def _check_applied(
    world: World,
    server: SimulatedServer,
    good: Mapping[TopicPartition, Mapping[int, str]],
    keys: KeyOf,
) -> None:
    """Every record that can be applied was, once, here; and the counters say the same.

    Of those that share an idempotency key, one was.
    """
    times = Counter((source, offset) for source, _, offset in server.applied)
    check_keys(world, server.name, times, good, keys)
    good = {
        source: {o: row for o, row in rows.items() if (source, o) not in keys or times[source, o]}
        for source, rows in good.items()
    }
    wanted = {(source, offset) for source, rows in good.items() for offset in rows}
    wrong: dict[tuple[TopicPartition, int], list[int]] = defaultdict(list)
    for source, offset in sorted(wanted | times.keys()):
        count = times[source, offset]
        if count != int((source, offset) in wanted):
            wrong[source, count].append(offset)
    for (source, count), offsets in wrong.items():
        world.violated(f"{server.name}: {source}: applied {count} times: {offsets}")
    counters = Counter(row for rows in good.values() for row in rows.values())
    if counters != server.counters:
        world.violated(f"{server.name}: the counters differ from what was produced")


def _check_order(world: World, server: SimulatedServer) -> None:
    last: dict[tuple[TopicPartition, Hashable], int] = defaultdict(lambda: -1)
    for source, ordering, offset in server.applied:
        keys = ordering if isinstance(ordering, tuple) else (ordering,)
        for key in keys:
            if offset < last[source, key]:
                world.violated(
                    f"{server.name}: {source} key {key}: {offset} after {last[source, key]}"
                )
            last[source, key] = offset
