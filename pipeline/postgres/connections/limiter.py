"""How much may run at once on a shard: batches, their transactions, take-overs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import attrs
import trio

from pipeline.postgres.connections.adaptive import AdaptiveLimit
from pipeline.postgres.connections.places import Places

STANDING_SECONDS = 1.0
"""A batch that takes so long may wait for something else than the database's work."""

STANDING_TIMES = 10.0
"""So many times what is usual must have passed, too: where all is slow, nobody stands."""

USUAL_SHARE = 0.05
"""How much each transaction counts for what is usual."""


@attrs.define
class Sample:
    """What a transaction tells the limit, beside the time that it took.

    Attributes:
        rows: how many it has: rows of the declared sink, records of a handler.
        elsewhere: seconds of it that were not Postgres's: a handler's own calls between statements.
        clean: whether it went as usual, in a single attempt; if not, its time says nothing.
    """

    rows: int
    elsewhere: float = 0.0
    clean: bool = True


class Limiter:
    """A shard's limits.

    A batch has a *slot* from when it is taken until it is decided, and a *transaction* while it is
    written; how many transactions run at once is ``limit``, which is ``connections`` at most. If the
    batches are handled by a slow function of a user's, there may be twice as many slots: half of the
    batches are with the handler, the others are written.

    Take-overs share the connections with the batches and may have half of them: an instance that is
    given many partitions at once goes on with those that it has, and a take-over that waits for a
    former owner's transaction holds up no batch. So they don't count against ``limit``.

    Everything here is first come, first served; every wait is a checkpoint, and a cancelled wait
    takes nothing. Where the limit is below ``connections``, a batch that stands (behind a row's lock, in
    a handler's call) does not hold up the others: see `Places`.

    Args:
        connections: how many transactions may run at once, at most.
        handled: whether a user's function handles the batches.
        adaptive: whether the limit follows what transactions take (see ``adaptive.py``); if not, it
            is ``connections``.
    """

    def __init__(self, connections: int, *, handled: bool = False, adaptive: bool = False) -> None:
        self._adaptive = AdaptiveLimit(connections) if adaptive and connections > 1 else None
        self._slow = False
        self.limit = connections
        """How many batches may be written at once, now."""
        self.slots = connections * (2 if handled else 1)
        """How many batches may be in flight at once, at most."""
        self._connections = connections
        self._usual = 0.0  # seconds of a transaction
        self._slots = Places(connections)
        self._batches = Places(connections)
        self._transactions = trio.CapacityLimiter(connections)
        self._take_overs = trio.CapacityLimiter(max(1, connections // 2))
        if self._adaptive is not None:
            self._follow(self._adaptive)

    @property
    def saturated(self) -> bool:
        """Whether all slots are taken."""
        return self._slots.full

    @property
    def slots_taken(self) -> int:
        """How many batches have a slot."""
        return self._slots.taken

    @property
    def transactions_taken(self) -> int:
        """How many batches are being written, and partitions taken over."""
        return int(self._transactions.borrowed_tokens)

    @property
    def at_once(self) -> int:
        """How many batches are being written, without others that stand; for one that is: 1 at least.

        It may count as standing itself, by then: it has waited for its connection to be made.
        """
        return max(1, self._batches.moving)

    def set_slots(self, *, slow: bool) -> None:
        """Give out all slots if the handler is slow, else one per transaction. Not a checkpoint."""
        if slow is not self._slow:
            self._slow = slow
            self._give_out()

    def observe(self, sample: Sample, at_once: int, seconds: float, now: float) -> None:
        """Let the limit follow one transaction that succeeded. Not a checkpoint.

        Args:
            sample: what is known of it.
            at_once: how many batches were being written when it began, with itself.
            seconds: what it took, with what was elsewhere.
            now: when it ended, in seconds on any clock.
        """
        if self._adaptive is not None and sample.clean:
            took = max(1e-6, seconds - sample.elsewhere)
            self._usual += USUAL_SHARE * (took - self._usual)
            self._adaptive.observe(sample.rows, at_once, took, now)
            self._follow(self._adaptive)

    async def watch(self) -> None:
        """Look for batches that stand. Runs until cancelled; at once if the limit is fixed."""
        while self._adaptive is not None:
            await trio.sleep(STANDING_SECONDS / 2)
            long = max(STANDING_SECONDS, STANDING_TIMES * self._usual)
            self._batches.look(long)
            self._slots.look(long)

    def restart(self) -> None:
        """Begin with one transaction: the server was away, or is another one. Not a checkpoint."""
        if self._adaptive is not None:
            self._adaptive.restart()
            self._follow(self._adaptive)

    def relearn(self) -> None:
        """Forget what was usual: this program's own load on the server changes. Not a checkpoint."""
        if self._adaptive is not None:
            self._adaptive.relearn()

    def _follow(self, adaptive: AdaptiveLimit) -> None:
        if adaptive.limit != self.limit:
            self.limit = adaptive.limit
            self._give_out()

    def _give_out(self) -> None:
        slots = 2 if self._slow else 1
        self._batches.allow(self.limit, self._connections)
        self._slots.allow(self.limit * slots, self._connections * slots)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot for a batch."""
        async with self._slots.place():
            yield

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Lend one's slot to others: one waits for something that is no work of the shard's.

        Afterwards there may be more batches than slots for a while; it is `transaction` that counts.
        Not a checkpoint.
        """
        with self._slots.aside():
            yield

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Wait until one more batch may be written."""
        async with self._batches.place(), self._transactions:
            yield

    @asynccontextmanager
    async def taking_over(self) -> AsyncIterator[None]:
        """Wait until one more partition may be taken over."""
        async with self._take_overs, self._transactions:
            yield
