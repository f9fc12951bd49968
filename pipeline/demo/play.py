"""The story: two instances start, events come, one is killed and comes back, all is compared.

play
├── producer   events to Kafka, on a thread
└── story      readings four times a second, and what happens between them
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import trio

from pipeline.demo.display import Display
from pipeline.demo.events import PARTITIONS, events
from pipeline.demo.producer import Producer
from pipeline.demo.progress import DemoProgress, Meter
from pipeline.demo.reading import Ledgers, read_offsets
from pipeline.demo.stage import SESSION_TIMEOUT_SECONDS, TOPIC, DemoStage
from pipeline.demo.verdict import DemoVerdict, compare
from pipeline.errors import PipelineError
from pipeline.postgres.connections.bridge import open_bridge

SEED = 2023
READING_SECONDS = 0.25
JOIN_SECONDS = 40.0
CATCH_UP_SECONDS = 40.0


@attrs.frozen
class Settings:
    """How long events are produced (seconds), and how many per second.

    ``killed_at`` and ``back_after`` are shares of that time: when an instance is killed, and how long
    after that it is started again.
    """

    seconds: float = 20.0
    rate: int = 5000
    killed_at: float = 0.4
    back_after: float = 0.1


class Story:
    """One run of the demo, from the first event to the verdict."""

    def __init__(self, stage: DemoStage, settings: Settings, display: Display) -> None:
        self._stage = stage
        self._settings = settings
        self._display = display
        self._ledgers = Ledgers(stage.dsns)
        self._producer = Producer(
            stage.servers.bootstrap, TOPIC, events(SEED), settings.rate, settings.seconds
        )
        self._meter = Meter(self._producer)
        self._survivor, self._victim = stage.instances
        self._produced = trio.Event()

    async def run(self) -> DemoVerdict:
        """Run the whole story, within the bridge.

        A checkpoint. Cancelled, it leaves processes running, for the stage to end.

        Raises:
            PipelineError: something did not happen in time, or an instance ended by itself.
        """
        await self._start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._produce)
            killed, rescued = await self._kill_and_restart()
        await self._catch_up()
        await self._stop()
        rows = self._producer.model.rows
        found = await compare(self._ledgers.databases, rows)
        return DemoVerdict(self._producer.sent, len(rows), killed, rescued, found)

    async def _start(self) -> None:
        for instance in self._stage.instances:
            await trio.to_thread.run_sync(instance.start)
        self._display.say("two instances of `pipeline run` start: A and B")
        await self._until(self._shared, JOIN_SECONDS, "both instances own partitions")

    async def _produce(self) -> None:
        await self._producer.produce()
        self._produced.set()

    async def _kill_and_restart(self) -> tuple[str, int]:
        settings, victim = self._settings, self._victim
        self._display.say(
            f"{settings.rate:,} events per second for {settings.seconds:.0f} s: {PARTITIONS} "
            "partitions, 64 tenants, one hot key"
        )
        await self._for(settings.seconds * settings.killed_at)
        owned = (await self._read()).owned_by(victim.name)
        await trio.to_thread.run_sync(victim.kill)
        killed_at = time.monotonic()
        rescued = await self._rescued(owned)
        shown = ", ".join(map(str, owned))
        self._display.say(
            f"instance {victim.name} is killed (SIGKILL). Its partitions {shown} wait until Kafka "
            f"misses it, {SESSION_TIMEOUT_SECONDS} s; the others go on"
        )
        await self._for(settings.seconds * settings.back_after)
        await trio.to_thread.run_sync(victim.start)
        self._display.say(f"instance {victim.name} is started again")
        await self._until(
            self._all_move(owned), CATCH_UP_SECONDS, f"partitions {shown} are worked on again"
        )
        stood = time.monotonic() - killed_at
        self._display.say(f"partitions {shown} are worked on again, {stood:.1f} s after the kill")
        await self._until(lambda _: self._produced.is_set(), settings.seconds + 30, "all produced")
        return f"instance {victim.name} once (SIGKILL), back at work after {stood:.1f} s", rescued

    async def _rescued(self, partitions: list[int]) -> int:
        """Return how many records are applied, but beyond the offsets committed to Kafka."""
        offsets = await read_offsets(self._stage.servers.bootstrap)
        applied = await self._ledgers.read()
        return sum(max(0, applied[p].count - offsets.committed[p]) for p in partitions)

    async def _catch_up(self) -> None:
        """Wait for lag 0: everything on the topic is applied, and committed to Kafka."""
        self._display.say(f"{self._producer.sent:,} events produced; waiting for lag 0")
        deadline = trio.current_time() + CATCH_UP_SECONDS
        while not (offsets := await read_offsets(self._stage.servers.bootstrap)).caught_up:
            if trio.current_time() > deadline:
                raise PipelineError(
                    f"lag 0 was not reached within {CATCH_UP_SECONDS:.0f} s: {offsets}"
                )
            await self._read()
            await trio.sleep(READING_SECONDS)
        sent = {number: len(sent_at) for number, sent_at in enumerate(self._producer.sent_at)}
        if offsets.ends != sent:
            raise PipelineError(f"the topic ends at {offsets.ends}, but {sent} were sent")
        await self._read()

    async def _stop(self) -> None:
        """Stop both instances, so that nothing is written while rows are compared."""
        self._display.freeze()
        self._display.say("lag 0; both instances are stopped, every row is compared")
        async with trio.open_nursery() as nursery:
            for instance in self._stage.instances:
                nursery.start_soon(trio.to_thread.run_sync, instance.stop)

    async def close(self) -> None:
        """Close the connections; bounded by the bridge."""
        await self._ledgers.close()

    # Readings

    async def _read(self) -> DemoProgress:
        """Read the ledgers and show progress; raise if an instance has ended by itself."""
        for instance in self._stage.instances:
            instance.check()
        progress = self._meter.measure(await self._ledgers.read())
        self._display.show(progress)
        return progress

    async def _for(self, seconds: float) -> None:
        deadline = trio.current_time() + seconds
        while (left := deadline - trio.current_time()) > 0:
            await self._read()
            await trio.sleep(min(READING_SECONDS, left))

    async def _until(
        self, condition: Callable[[DemoProgress], bool], seconds: float, what: str
    ) -> None:
        deadline = trio.current_time() + seconds
        while not condition(await self._read()):
            if trio.current_time() > deadline:
                raise PipelineError(f"not reached within {seconds:.0f} s: {what}")
            await trio.sleep(READING_SECONDS)

    def _shared(self, progress: DemoProgress) -> bool:
        """Return whether every partition has an owner, and both instances own some."""
        owned = [progress.owned_by(instance.name) for instance in self._stage.instances]
        return all(owned) and sum(map(len, owned)) == PARTITIONS

    def _all_move(self, partitions: list[int]) -> Callable[[DemoProgress], bool]:
        """Return a condition: whether all that these partitions hold at this call is applied."""
        reached = {number: len(self._producer.sent_at[number]) for number in partitions}

        def moved(progress: DemoProgress) -> bool:
            applied = {partition.number: partition.applied for partition in progress.partitions}
            return all(applied[number] >= count for number, count in reached.items())

        return moved


async def play(stage: DemoStage, settings: Settings, display: Display) -> DemoVerdict:
    """Play the story on a stage; see `Story.run`."""
    async with open_bridge():
        story = Story(stage, settings, display)
        try:
            return await story.run()
        finally:
            # Shielded: a cancelled story must not leave connections to be found broken.
            with trio.CancelScope(shield=True):
                await story.close()
