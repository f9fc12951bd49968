"""Deletes from a shard's ledger what it keeps for a time only, while nothing else goes wrong there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio

from pipeline.contracts.snapshot import BreakerState
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.tidying import STEP, Chore, step

log = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0
"""Between two looks at what is old."""


class Tidier:
    """Does a shard's chores.

    Args:
        shard: the database.
        chores: what is deleted.
        streams: whose rows are: of this pipeline's topics.
        lag: how old the oldest record is that waits in this instance's partitions; None: not known.
        ready: whether the ledger's tables are there.
    """

    def __init__(
        self,
        shard: Shard,
        chores: Sequence[Chore],
        streams: Sequence[str],
        lag: Callable[[], float | None],
        ready: Callable[[], bool],
    ) -> None:
        self._shard = shard
        self._chores = chores
        self._streams = streams
        self._lag = lag
        self._ready = ready
        self._trouble: dict[str, str] = {}

    async def run(self) -> None:
        """Do the chores once a minute until cancelled. What fails is told once, and tried again."""
        while self._chores:
            await trio.sleep(PAUSE_SECONDS)
            for chore in self._chores:
                await self._do(chore)

    async def _do(self, chore: Chore) -> None:
        done = STEP
        while done == STEP and self._ready() and self._shard.breaker.state is BreakerState.CLOSED:
            lag = self._lag()
            if lag is None and chore.waits:
                return
            started = trio.current_time()
            try:
                done = await self._shard.run(
                    partial(step, chore=chore, streams=self._streams, lag=lag or 0.0)
                )
            except Exception as error:  # told; nothing but space depends on it
                self._failed(chore, explain(error))
                return
            self._trouble.pop(chore.what, None)
            await trio.sleep(trio.current_time() - started)

    def _failed(self, chore: Chore, why: str) -> None:
        if self._trouble.get(chore.what) != why:
            log.warning(
                "shard %s: %s that are old enough were not deleted: %s",
                self._shard.name, chore.what, why,
            )  # fmt: skip
        self._trouble[chore.what] = why
