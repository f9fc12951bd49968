"""What must hold of every history."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence

import attrs
import orjson
import trio

from pipeline.consumer.holds import STOPPING
from pipeline.consumer.rule_index import matcher
from pipeline.contracts.lane import Lane
from pipeline.contracts.rule import Rule
from pipeline.contracts.wishes import Wishes
from pipeline.records.record import Record, TopicPartition
from pipeline.records.tenant import TenantOf
from tests.simulation.kafka import TOPIC_ID, Broker, Message
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
        self._lost_lanes: dict[TopicPartition, list[Lane]] = defaultdict(list)

    def check(self, source: TopicPartition, offset: int) -> None:
        """Called for every offset that the broker takes."""
        former = self._seen.get(source, self._broker.starts[source])
        if offset < former:
            self._world.violated(f"{source}: the committed offset went back: {former}, {offset}")
        self._update(self._server_of[source.partition])
        decided = self._applied | self._world.dead_letters
        decided |= self._server_of[source.partition].repeated
        below = [m for m in self._broker.logs[source] if former <= m.offset < offset]
        lanes = [*self._lost_lanes[source], *lanes_of(self._server_of[source.partition], source)]
        missing = [
            m.offset
            for m in below
            if (source, m.offset) not in decided and not any(answers(lane, m) for lane in lanes)
        ]
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
        for source in self._broker.logs:
            self._lost_lanes[source] += lanes_of(server, source)

    def _update(self, server: SimulatedServer) -> None:
        fresh = server.applied[self._read[server.name] :]
        self._read[server.name] += len(fresh)
        self._applied.update((source, offset) for source, _, offset in fresh)
        self._applied |= server.marked


def lanes_of(server: SimulatedServer, source: TopicPartition) -> list[Lane]:
    """The lanes of a partition that a server has rows of."""
    return server.lanes.known((f"group/{source.topic}", TOPIC_ID, source.partition))[0]


def open_lanes(server: SimulatedServer) -> int:
    """How many lanes of a server are open."""
    found = [
        lane for number in range(64) for lane in lanes_of(server, TopicPartition("events", number))
    ]
    return sum(lane.until_offset is None for lane in found)


def answers(lane: Lane, message: Message) -> bool:
    """Whether a lane answers for a record, as its row says."""
    return lane.covers(message.offset) and is_meant(lane.rule, message)


def is_meant(rule: Rule, message: Message) -> bool:
    """Whether a record is a rule's, read from the record itself."""
    try:
        document = orjson.loads(message.value or b"")
    except orjson.JSONDecodeError:
        return False
    return bool(document.get("id" if rule.kind == "key" else "tenant") == rule.value)


class HoldLaw:
    """No batch with a record of a hold begins once the instance knows of it."""

    def __init__(self, world: World, wishes: Wishes, tenant_of: TenantOf) -> None:
        self._world = world
        self._wishes = wishes
        self._tenant_of = tenant_of
        self.known: dict[str, float] = {}
        """When the instance learnt of each hold as it is now."""

    def begins(self, records: Sequence[Record]) -> None:
        """Called for every batch that begins, of the main way and of lanes."""
        holds = [hold for hold in self._wishes.holds() if hold.state in STOPPING]
        for hold in holds:
            matches = matcher(hold.rule, self._tenant_of)
            found = [str(record) for record in records if matches(record)]
            if found and trio.current_time() > self.known[hold.id]:
                self._world.violated(f"{found} begin, but {hold.rule} is held")


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
    world: World,
    broker: Broker,
    server_of: Mapping[int, SimulatedServer],
    expected: Expected,
    dropped: Collection[Rule],
) -> None:
    """The state when everything has ended, against what was produced."""
    servers = {server.name: server for server in server_of.values()}
    given_up = _given_up(world, broker, servers.values(), expected, dropped)
    for name, server in servers.items():
        good = {
            source: {
                offset: row
                for offset, row in expected.good.get(source, {}).items()
                if (source, offset) not in given_up
            }
            for source in broker.logs
            if server_of[source.partition] is server
        }
        _check_applied(world, server, good, expected.keys)
        _check_order(world, server)
        if server.locks.held or server.running:
            world.violated(f"{name}: {server.locks.held} locks, {len(server.running)} running")
        if open_lanes(server):
            world.violated(f"{name}: {open_lanes(server)} lanes are still open")
    if expected.poison - world.dead_letters - given_up:
        wrong = sorted(expected.poison - world.dead_letters - given_up)
        world.violated(f"poison records are no dead letters: {wrong}")
    for source in broker.logs:
        committed = broker.committed.get(source, (broker.starts[source], ""))[0]
        if committed != broker.end(source):
            world.violated(f"{source}: committed {committed} of {broker.end(source)}")


def _given_up(
    world: World,
    broker: Broker,
    servers: Iterable[SimulatedServer],
    expected: Expected,
    dropped: Collection[Rule],
) -> set[tuple[TopicPartition, int]]:
    """Records that are decided and not applied, as an operator wished; no others may be."""
    marked = set().union(*(server.marked for server in servers))
    messages = {(s, m.offset): m for s, log in broker.logs.items() for m in log}
    refused = world.refusals.until.keys()
    for place in sorted((marked | world.dead_letters) - expected.poison - refused):
        if not any(is_meant(rule, messages[place]) for rule in dropped):
            world.violated(f"{place} was given up, and nobody wished so")
    return marked


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
