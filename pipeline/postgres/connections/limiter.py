"""How much may run at once on a shard: batches, their transactions, take-overs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Limiter:
    """A shard's limits.

    A batch has a *slot* from when it is taken until it is decided, and a *transaction* while it is
    written; there are as many transactions at once as ``connections``. If the batches are handled by
    a slow function of a user's, there may be twice as many slots: half of the batches are with the
    handler, the others are written.

    Take-overs share the connections with the batches and may have half of them: an instance that is
    given many partitions at once goes on with those that it has, and a take-over that waits for a
    former owner's transaction holds up no batch.

    Everything here is first come, first served; every wait is a checkpoint, and a cancelled wait
    takes nothing.

    Args:
        connections: how many transactions may run at once.
        handled: whether a user's function handles the batches.
    """

    def __init__(self, connections: int, *, handled: bool = False) -> None:
        self._connections = connections
        self.slots = connections * (2 if handled else 1)
        """How many batches may be in flight at once, at most."""
        self._slots = trio.CapacityLimiter(connections)
        self._transactions = trio.CapacityLimiter(connections)
        self._take_overs = trio.CapacityLimiter(max(1, connections // 2))

    @property
    def saturated(self) -> bool:
        """Whether all slots are taken."""
        return self._slots.available_tokens <= 0

    @property
    def slots_taken(self) -> int:
        """How many batches have a slot."""
        return int(self._slots.borrowed_tokens)

    @property
    def transactions_taken(self) -> int:
        """How many batches are being written, and partitions taken over."""
        return int(self._transactions.borrowed_tokens)

    def set_slots(self, *, slow: bool) -> None:
        """Give out all slots if the handler is slow, else one per connection. Not a checkpoint."""
        self._slots.total_tokens = self.slots if slow else self._connections

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot for a batch."""
        async with self._slots:
            yield

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Wait until one more batch may be written."""
        async with self._transactions:
            yield

    @asynccontextmanager
    async def taking_over(self) -> AsyncIterator[None]:
        """Wait until one more partition may be taken over."""
        async with self._take_overs, self._transactions:
            yield
