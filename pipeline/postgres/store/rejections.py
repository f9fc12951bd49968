"""The records of a batch that can never be applied: kept as dead letters, then marked in the ledger.

They come last, when all else of their batch is applied: a dead letter topic that takes none of them holds
up no row of it. Meanwhile the batch's slot at the shard is lent to others, so letters that wait hold up
no other partition, however many there are. Among each other, a letter that is not taken within
`TURN_SECONDS` lets the next one go, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import trio

from pipeline.contracts.store import DeadLetters, Fenced
from pipeline.errors import PipelineError
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.recovery import Recovery, described
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record

TURN_SECONDS = 2.0
"""How long the next letter of a batch waits for the one before it."""

Rejected: TypeAlias = tuple[Record, DeadLetterReason]


class Rejections:
    """Keeps and marks the records of one partition that can never be applied.

    Args:
        shard: its slots, its breaker, its metrics.
        database: where they are marked as decided.
        recovery: what follows an error of the database.
        dead_letters: where they are kept.
    """

    def __init__(
        self, shard: Shard, database: Transactions, recovery: Recovery, dead_letters: DeadLetters
    ) -> None:
        self._shard = shard
        self._database = database
        self._recovery = recovery
        self._dead_letters = dead_letters
        self.keeping = 0
        """How many wait for the dead letter topic."""

    async def keep(self, lease: Lease, rejected: Sequence[Rejected]) -> None:
        """Keep and mark records, each as soon as it can be. A checkpoint.

        Cancelled, it returns at once; a record may be kept and not marked, and is then kept again.

        Raises:
            Fenced: the lease is void.
            PipelineError: see `DeadLetters.put`; or the shard refuses the mark for good.
        """
        failures: list[Exception] = []

        async def one(each: Rejected, done: trio.Event) -> None:
            try:
                await self._keep(lease, *each)
            except Exception as error:  # raised below, as it is
                failures.append(error)
                nursery.cancel_scope.cancel()
            done.set()

        with self._shard.limiter.aside():
            async with trio.open_nursery() as nursery:
                for each in rejected:
                    done = trio.Event()
                    nursery.start_soon(one, each, done)
                    with trio.move_on_after(TURN_SECONDS):
                        await done.wait()
        if failures:
            raise failures[0]

    async def _keep(self, lease: Lease, record: Record, why: DeadLetterReason) -> None:
        self.keeping += 1
        try:
            with self._recovery.waiting(record.source):
                await self._dead_letters.put(record, why)
        finally:
            self.keeping -= 1
        self._shard.metrics.dead_letters.labels(record.topic, str(record.partition)).inc()
        self._shard.metrics.dead_letter_kinds.labels(why.kind).inc()
        await self.mark(lease, [record], why, "marking as a dead letter")

    async def mark(
        self, lease: Lease, records: Sequence[Record], why: DeadLetterReason, doing: str
    ) -> None:
        """Mark records as decided, until the database has it. A checkpoint.

        Raises:
            Fenced: the lease is void.
            PipelineError: the shard refuses the mark for good.
        """
        attempt = 0
        while True:
            await self._shard.breaker.wait_closed()
            try:
                # Marking twice does no harm, so a mark in doubt is simply made again.
                await self._database.mark(lease, records, why)
                return
            except (Fenced, PipelineError):
                raise
            except Exception as error:  # judged: what is not for retrying is raised
                what = f"{doing}: {described(records)}"
                await self._recovery.failed(error, attempt, what, records=records)
                attempt += 1
