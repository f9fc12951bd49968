"""A number of places that changes, and does not let who stands in one hold up who waits for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio


class Places:
    """Places for what runs at once, first come, first served.

    Whoever has had a place for long is likely to wait for something else than the database's work: a
    row's lock, a handler's own call. It keeps its place, and another one is given out beside it, up to
    ``most`` in all: otherwise one key that stands would hold up every other one whenever the limit is
    low. That is found out by `look`, which somebody must call now and then.

    Args:
        most: how many there are at most.
    """

    def __init__(self, most: int) -> None:
        self._most = self._limit = most
        self._tokens = trio.CapacityLimiter(most)
        self._since: dict[object, float] = {}
        self._standing = 0
        self._aside = 0

    @property
    def taken(self) -> int:
        """How many are taken."""
        return int(self._tokens.borrowed_tokens)

    @property
    def moving(self) -> int:
        """How many are taken by those who don't stand."""
        return self.taken - self._standing - self._aside

    @property
    def full(self) -> bool:
        """Whether whoever comes now must wait."""
        return self._tokens.available_tokens <= 0

    def allow(self, limit: int, most: int) -> None:
        """Give out ``limit`` places, and ``most`` with those of whoever stands. Not a checkpoint."""
        self._limit, self._most = limit, most
        self._give_out()

    def look(self, long: float) -> None:
        """Count those who have had a place for ``long`` seconds. Not a checkpoint."""
        before = trio.current_time() - long
        long_here = sum(since <= before for since in self._since.values())
        self._standing = max(0, long_here - self._aside)
        self._give_out()

    def _give_out(self) -> None:
        self._tokens.total_tokens = min(self._most, self._limit + self._standing) + self._aside

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Give one more place out, whatever the limits, while one who has a place does not use it."""
        self._aside += 1
        self._give_out()
        try:
            yield
        finally:
            self._aside -= 1
            self._give_out()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place. A checkpoint; cancelled, it takes nothing."""
        async with self._tokens:
            holder = object()
            self._since[holder] = trio.current_time()
            try:
                yield
            finally:
                del self._since[holder]
