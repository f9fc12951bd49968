"""Several writes at once, as a careful hand-written loop does them: each in a lane of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bench.subjects.peers.upsert import Writer, columns, folded


class Lanes:
    """One connection per lane, with one write at a time.

    A partition always has the same lane, so its order holds and no row is locked by two writes. The
    next batch is fetched and folded while Postgres executes the last one.
    """

    def __init__(self, writers: list[Writer]) -> None:
        self._writers = writers
        self._running: list[asyncio.Task[None] | None] = [None] * len(writers)

    @classmethod
    async def open(cls, dsn: str, count: int) -> Lanes:
        """Open a connection per lane."""
        return cls([await Writer.open(dsn) for _ in range(count)])

    def of(self, partition: int) -> int:
        """Return the lane of a partition."""
        return partition % len(self._writers)

    async def write(self, lane: int, values: list[bytes], then: Callable[[], None]) -> None:
        """Start a write once the lane's last one is done; call ``then`` when it is committed."""
        arrays = columns(folded(values))
        running = self._running[lane]
        if running is not None:
            await running
        self._running[lane] = asyncio.create_task(self._write(lane, arrays, then))

    async def _write(
        self, lane: int, arrays: tuple[list[object], ...], then: Callable[[], None]
    ) -> None:
        await self._writers[lane].write(arrays)
        then()
