"""Operators of a history: they pause what they like, hold keys and tenants, release, and drop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import attrs
import trio

from pipeline.contracts.rule import Rule
from pipeline.contracts.wish import AnyWish, Hold, HoldState, Pause, Scope
from tests.simulation.instance import Instance
from tests.simulation.postgres import SimulatedServer
from tests.simulation.world import World

LIVE_SECONDS = 5.0
"""How long a wish takes at most to reach every instance."""


class Operators:
    """What is wished in a history, and who hears of it when.

    Args:
        world: the history's.
        instances: those that there are, and were.
        scopes: what may be paused.
        rules: what may be held.
    """

    def __init__(
        self,
        world: World,
        instances: Sequence[Instance],
        scopes: Sequence[Scope],
        rules: Sequence[Rule],
    ) -> None:
        self.dropped: set[Rule] = set()
        """Whose records may have been given up, at least once."""
        self._world = world
        self._instances = instances
        self._scopes = scopes
        self._rules = rules
        self._wished: dict[str, AnyWish] = {}

    def tell(self, instance: Instance) -> None:
        """The control topic is read before anything else."""
        for wish in self._wished.values():
            instance.learn(wish)

    async def pause(self) -> None:
        """Until its time is over, or until it is removed; each instance hears of it in time."""
        world, rng = self._world, self._world.rng
        what, seconds = rng.choice(self._scopes), rng.uniform(0.1, 15.0)
        by_itself = world.chance(0.5)
        number, now = world.marks["paused"], trio.current_time()
        until = int((now + seconds) * 1000) if by_itself else None
        pause = Pause(id=f"p{number}", by="operator", since=int(now * 1000), until=until, what=what)
        world.mark("paused")
        world.journal.note("%s is paused for %.1f s", what, seconds)
        await self._wish(pause)
        await trio.sleep(seconds)
        if by_itself:
            del self._wished[pause.id]
        else:
            world.journal.note("%s goes on", what)
            await self._take_back(pause)

    async def hold(self) -> None:
        """For some seconds; then what waits is released or dropped, and the wish taken back."""
        world, rng = self._world, self._world.rng
        number, now = world.marks["held"], int(trio.current_time() * 1000)
        rule = rng.choice(self._rules)
        if any(isinstance(wish, Hold) and wish.rule == rule for wish in self._wished.values()):
            return
        hold = Hold(id=f"h{number}", by="operator", since=now, rule=rule, changed=now)
        world.mark("held")
        world.journal.note("%s is held", rule)
        await self._wish(hold)
        await trio.sleep(rng.uniform(0.1, 15.0))
        if world.chance(0.2):
            hold = await self._change(hold, HoldState.DROP_FIRST)
            await trio.sleep(rng.uniform(0.1, 5.0))
        if world.chance(0.25):
            hold = await self._change(hold, HoldState.DROPPING)
            await trio.sleep(rng.uniform(0.1, 10.0))
        elif world.chance(0.5):
            hold = await self._change(hold, HoldState.RELEASED)
            await trio.sleep(rng.uniform(0.1, 3.0))
        world.journal.note("%s is held no more", rule)
        await self._take_back(hold)

    async def rule(self, servers: Collection[SimulatedServer]) -> None:
        """Look every few seconds at what holds up lanes, and give it up, or let it be tried at once."""
        world, rng = self._world, self._world.refusals.rng
        while True:
            await trio.sleep(rng.uniform(1.0, 8.0))
            found = [each for server in servers for each in server.lanes.failures()]
            if not found:
                continue
            place, topic_id = rng.choice(sorted(found))
            drop = rng.random() < 0.7
            ruling = world.refusals.ruling(place, topic_id, world.marks["ruled"], drop=drop)
            world.mark("ruled")
            world.journal.note("%s %s: %s", *place, "given up" if drop else "to be tried again")
            await self._wish(ruling)

    async def _change(self, hold: Hold, state: HoldState) -> Hold:
        changed = attrs.evolve(hold, state=state, changed=int(trio.current_time() * 1000))
        if state is not HoldState.RELEASED:
            self.dropped.add(hold.rule)
        self._world.journal.note("%s: %s", hold.rule, state.value)
        await self._wish(changed)
        return changed

    async def _wish(self, wish: AnyWish) -> None:
        self._wished[wish.id] = wish
        await self._heard(lambda instance: instance.learn(wish))

    async def _take_back(self, wish: AnyWish) -> None:
        del self._wished[wish.id]
        await self._heard(lambda instance: instance.wishes.remove(wish.id))

    async def _heard(self, act: Callable[[Instance], None]) -> None:
        """All instances hear of something, each when the control topic reaches it."""
        for instance in self._world.rng.sample(self._instances, len(self._instances)):
            await trio.sleep(self._world.rng.uniform(0.0, LIVE_SECONDS / 3))
            act(instance)
