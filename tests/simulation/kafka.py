"""A simulated Kafka: partitions, one group with cooperative rebalances, and its members.

`Broker` is the server's side. `SimulatedConsumer` is `client.KafkaClient` without kafka-python: the
same thread rules in virtual time. Commands (seek, pause, resume) are queued and carried out before the
next poll; a poll that is under way can't be cancelled. A rebalance waits until the supervisor has
carried out its event, which may come amid a poll; polls, commits and the reading of offsets go on
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from uuid import UUID

import attrs
import trio

from pipeline.contracts.kafka import AssignmentEvent, Change, Consumer, Event, LogMoved, Position
from pipeline.kafka.record_batches import PlainBatch
from pipeline.records.record import FirstRecords, RawBatch, Spans, TopicPartition
from tests.simulation.world import Gate, World

TOPIC_ID = UUID(int=7)
IDLE_POLL_SECONDS = 1.0


@attrs.frozen
class Message:
    """A record as a decoder yields it."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()


@attrs.define(eq=False)
class Member:
    """A member of the group: what it owns, and the generation that it has joined."""

    number: int
    owned: set[TopicPartition] = attrs.field(factory=set)
    target: set[TopicPartition] = attrs.field(factory=set)
    generation: int = 0


class Broker:
    """The logs, the group's committed offsets, and who owns what."""

    def __init__(self, world: World, sources: Iterable[TopicPartition]) -> None:
        self.world = world
        self.logs: dict[TopicPartition, list[Message]] = {source: [] for source in sources}
        self.starts: dict[TopicPartition, int] = dict.fromkeys(self.logs, 0)
        self.topic_id = TOPIC_ID
        self.committed: dict[TopicPartition, tuple[int, str]] = {}
        self.members: dict[int, Member] = {}
        self.generation = 0
        self.changed = trio.lowlevel.ParkingLot()
        self.on_commit: Callable[[TopicPartition, int], None] = lambda _source, _offset: None
        self._numbers = 0

    def end(self, source: TopicPartition) -> int:
        log = self.logs[source]
        return log[-1].offset + 1 if log else self.starts[source]

    def produce(self, source: TopicPartition, messages: Iterable[Message]) -> None:
        self.logs[source].extend(messages)
        self.changed.unpark_all()

    def recreate(self) -> None:
        """Delete the topic and make it anew: other logs, and no committed offsets."""
        self.topic_id = UUID(int=self.topic_id.int + 1)
        self.logs = {source: [] for source in self.logs}
        self.starts = dict.fromkeys(self.logs, 0)
        self.committed = {}
        self.world.journal.note("kafka: the topic is made anew")
        self.changed.unpark_all()

    def delete_records(self, source: TopicPartition, below: int) -> None:
        """Take the oldest records away, as retention does."""
        self.logs[source] = [m for m in self.logs[source] if m.offset >= below]
        self.starts[source] = below
        self.world.journal.note("kafka: %s begins at %d now", source, below)
        self.changed.unpark_all()

    # The group

    def join(self) -> Member:
        self._numbers += 1
        member = Member(self._numbers)
        self.members[member.number] = member
        self.world.journal.note("kafka: member %d joins", member.number)
        self.rebalance()
        return member

    def leave(self, member: Member) -> None:
        """A member has left, or its session has timed out: it does not hear of it."""
        if self.members.pop(member.number, None) is not None:
            self.world.journal.note("kafka: member %d is out", member.number)
            self.rebalance()

    def is_in(self, member: Member) -> bool:
        return member.number in self.members

    def rebalance(self) -> None:
        """A new generation: targets as even as can be, sticky or (now and then) not at all."""
        self.generation += 1
        members = [self.members[number] for number in sorted(self.members)]
        if members:
            self._assign(members, sticky=not self.world.chance(0.15))
        self.changed.unpark_all()

    def _assign(self, members: list[Member], *, sticky: bool) -> None:
        quota = -(-len(self.logs) // len(members))
        for member in members:
            owned = sorted(member.owned) if sticky else []
            member.target = set(owned[:quota])
        taken = {source for member in members for source in member.target}
        rest = [source for source in sorted(self.logs) if source not in taken]
        self.world.rng.shuffle(rest)
        for source in rest:
            min(members, key=lambda member: len(member.target)).target.add(source)

    def grantable(self, member: Member) -> list[TopicPartition]:
        """What the member shall own and nobody else still does."""
        others = {s for other in self.members.values() if other is not member for s in other.owned}
        return sorted(member.target - member.owned - others)

    def commit(self, member: Member, offsets: Mapping[TopicPartition, tuple[int, str]]) -> bool:
        """Take offsets, unless the member is out or a rebalance has begun without it."""
        if not self.is_in(member) or member.generation != self.generation:
            return False
        for source, (offset, text) in sorted(offsets.items()):
            self.on_commit(source, offset)
            self.committed[source] = (offset, text)
        return True


class SimulatedConsumer:
    """One instance's consumer. See `Consumer` for what each method does."""

    def __init__(self, broker: Broker, awake: Gate, max_poll_records: int) -> None:
        self._broker = broker
        self._world = broker.world
        self._awake = awake
        self.connected = Gate()
        """Closed: Kafka can't be reached from here."""
        self.member: Member | None = None
        self._max_poll_records = max_poll_records
        self._position: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._commands: list[Callable[[], None]] = []
        self._stale: set[TopicPartition] = set()  # what a poll under way has of them is dropped
        self._carried_out: trio.Event | None = None  # what the rebalance waits for
        self._then: Callable[[], None] = _nothing
        self._pins: dict[TopicPartition, UUID] = {}
        self._moved: set[TopicPartition] = set()
        self._send, self.events = trio.open_memory_channel[Event](1000)
        self._polling = trio.Lock()
        self._closing = False
        self._killed = False

    def kill(self) -> None:
        """The process is gone: no event is posted any more, and nobody tells the group."""
        self._killed = True
        self.connected.open()
        self._broker.changed.unpark_all()

    # Polling

    async def poll(self) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        if self._closing:
            await trio.sleep_forever()
        async with self._polling:
            commands, self._commands = self._commands, []
            self._stale.clear()
            # Shielded: a worker thread is in it, which can't be cancelled.
            with trio.CancelScope(shield=True):
                records = await self._poll(commands)
            return {s: found for s, found in records.items() if s not in self._stale}

    async def _poll(
        self, commands: list[Callable[[], None]]
    ) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        for command in commands:
            command()
        await self._reach()
        self._follow_the_group()
        records = self._fetch()
        if not records and not self._killed:
            with trio.move_on_after(IDLE_POLL_SECONDS):
                await self._broker.changed.park()
            await self._reach()
            records = self._fetch()
        await trio.sleep(self._world.rng.uniform(0.0005, 0.005))
        await self._reach()
        self._follow_the_group()
        return records

    async def _reach(self) -> None:
        await self._awake.passed()
        await self.connected.passed()

    def _follow_the_group(self) -> None:
        if self._killed or (self._carried_out is not None and not self._carried_out.is_set()):
            return
        then, self._then, self._carried_out = self._then, _nothing, None
        then()
        if self.member is not None and not self._broker.is_in(self.member):
            owned, self.member = self.member.owned, None
            if owned:
                self._post(Change.LOST, sorted(owned))
                return
        if self.member is None:
            self.member = self._broker.join()
        member = self.member
        if member.generation == self._broker.generation:
            return
        member.generation = self._broker.generation
        leaving = sorted(member.owned - member.target)
        if leaving:
            self._post(Change.REVOKED, leaving, partial(self._give_up, member, leaving))
        elif coming := self._broker.grantable(member):
            member.owned.update(coming)
            self._post(Change.ASSIGNED, coming)

    def _give_up(self, member: Member, leaving: Sequence[TopicPartition]) -> None:
        if self._broker.is_in(member):
            member.owned.difference_update(leaving)
            self._broker.rebalance()

    def _post(
        self,
        change: Change,
        sources: Sequence[TopicPartition],
        then: Callable[[], None] | None = None,
    ) -> trio.Event:
        """Post an event; ``then`` is what the first poll after it was carried out goes on with."""
        self._stale.update(sources)
        self._moved.difference_update(sources)
        for source in sources:
            self._position.pop(source, None)
            if change is Change.ASSIGNED:
                self._position[source] = self._reset(source)
                self._paused.add(source)
        self._carried_out = carried_out = trio.Event()
        self._then = then or _nothing

        def done() -> None:
            carried_out.set()
            if then is not None:
                self._broker.changed.unpark_all()

        self._world.journal.note("kafka: %s %s", change.value, ", ".join(map(str, sources)))
        try:
            self._send.send_nowait(AssignmentEvent(change, tuple(sources), done))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            done()
        return carried_out

    def _reset(self, source: TopicPartition) -> int:
        committed = self._broker.committed.get(source)
        return self._broker.starts[source] if committed is None else committed[0]

    def _fetch(self) -> Mapping[TopicPartition, Sequence[RawBatch]]:
        if self._killed:
            return {}
        room = self._max_poll_records
        ready = sorted(set(self._position) - self._paused)
        self._world.rng.shuffle(ready)
        fetched: dict[TopicPartition, Sequence[RawBatch]] = {}
        for source in ready:
            position = self._position[source]
            if source in self._moved | self._stale or self._is_gone(source):
                continue
            if not self._broker.starts[source] <= position <= self._broker.end(source):
                self._moved.add(source)
                self._send.send_nowait(LogMoved(source, position))
                continue
            found = [m for m in self._broker.logs[source] if m.offset >= position][:room]
            if found:
                cut = self._world.rng.randrange(len(found) + 1)
                fetched[source] = [PlainBatch(part) for part in (found[:cut], found[cut:]) if part]
                self._position[source] = found[-1].offset + 1
                room -= len(found)
        return fetched

    def _is_gone(self, source: TopicPartition) -> bool:
        """Whether the topic that is meant is not there any more: nothing is fetched of another."""
        return self._pins.get(source, self._broker.topic_id) != self._broker.topic_id

    # Commands, carried out by the next poll

    def seek_and_resume(
        self, source: TopicPartition, offset: int, topic_id: UUID | None = None
    ) -> None:
        self._commands.append(partial(self._seek, source, offset, topic_id))
        self._stale.add(source)
        self._moved.discard(source)
        self.resume(source)

    def _seek(self, source: TopicPartition, offset: int, topic_id: UUID | None) -> None:
        if source in self._position:
            self._position[source] = offset
            self._pins[source] = topic_id or self._broker.topic_id

    def pause(self, source: TopicPartition) -> None:
        self._commands.append(partial(self._paused.add, source))

    def resume(self, source: TopicPartition) -> None:
        self._commands.append(partial(self._paused.discard, source))

    # Offsets, beside the poll

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> bool:
        member = self.member
        # Shielded: a worker thread is in it, which can't be cancelled.
        with trio.CancelScope(shield=True):
            await self._reach()
            await trio.sleep(self._world.rng.uniform(0.001, 0.02))
            await self._reach()
        unlucky = self._world.chance(self._world.weather.refused)
        if self._killed or member is None or (unlucky and self._world.chance(0.5)):
            return False
        taken = self._broker.commit(member, offsets)
        shown = ", ".join(f"{source} {offset}" for source, (offset, _) in offsets.items())
        self._world.journal.note("kafka: commit %s: %s", shown, taken)
        if not taken:
            self._world.mark("commit refused")
        return taken and not unlucky

    async def positions(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        with trio.CancelScope(shield=True):
            await self._reach()
            await trio.sleep(self._world.rng.uniform(0.001, 0.02))
            broker = self._broker
            found = {}
            for source in sources:
                committed, text = broker.committed.get(source, (None, ""))
                start, end = broker.starts[source], broker.end(source)
                found[source] = Position(committed, text, start, end, start)
        return found

    async def ends(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._reach()
        return {source: self._broker.end(source) for source in sources}

    async def try_positions(
        self, sources: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Position]:
        return {} if self.connected.closed else await self.positions(sources)

    async def first_records(self, spans: Spans) -> FirstRecords:
        await trio.sleep(0.01)
        if self.connected.closed:
            return {}
        return {source: self._first(source, *span) for source, span in spans.items()}

    def _first(self, source: TopicPartition, start: int, end: int) -> Message | None:
        log = self._broker.logs[source]
        return next((message for message in log if start <= message.offset < end), None)

    async def topic_id(self, topic: str) -> UUID:
        del topic
        await trio.sleep(0.001)
        return self._broker.topic_id

    async def topic_ids(self) -> Mapping[str, UUID | None]:
        await trio.sleep(0.001)
        if self.connected.closed:
            return {}
        return {source.topic: self._broker.topic_id for source in self._broker.logs}

    async def close(self) -> None:
        self._closing = True
        async with self._polling:
            await self._reach()
            if self._carried_out is not None:
                await self._carried_out.wait()
                self._then()
            member = self.member
            if member is not None and self._broker.is_in(member):
                if member.owned:
                    await self._post(Change.REVOKED, sorted(member.owned)).wait()
                self._broker.leave(member)


def _nothing() -> None: ...


def _conforms(consumer: SimulatedConsumer) -> Consumer:
    return consumer
