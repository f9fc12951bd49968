"""Row locks, shared and exclusive, as Postgres's ``for share`` and ``update`` take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager

import trio


class RowLocks:
    """The locks of one server. Whoever waits for an exclusive one is not overtaken."""

    def __init__(self) -> None:
        self._shared: Counter[Hashable] = Counter()
        self._exclusive: set[Hashable] = set()
        self._wanted: Counter[Hashable] = Counter()
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def held(self) -> int:
        """How many locks are held or waited for."""
        return self._shared.total() + len(self._exclusive) + self._wanted.total()

    @asynccontextmanager
    async def hold(self, rows: Sequence[Hashable], *, exclusive: bool) -> AsyncIterator[None]:
        """Hold all of ``rows``. Cancelled while waiting, it holds none."""
        if exclusive:
            await self._exclude(rows)
        else:
            while any(row in self._exclusive or self._wanted[row] for row in rows):
                await self._changed.park()
            self._shared.update(rows)
        try:
            yield
        finally:
            if exclusive:
                self._exclusive.difference_update(rows)
            else:
                self._shared.subtract(rows)
            self._changed.unpark_all()

    async def _exclude(self, rows: Sequence[Hashable]) -> None:
        self._wanted.update(rows)
        try:
            while any(row in self._exclusive or self._shared[row] for row in rows):
                await self._changed.park()
            self._exclusive.update(rows)
        finally:
            self._wanted.subtract(rows)
            self._changed.unpark_all()
