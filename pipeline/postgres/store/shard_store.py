"""The store of one shard: what its partitions share.

How a batch of one partition is decided, whatever Postgres says of it, is told in
``shard_partition.py``; which shard a partition belongs to, in ``store_router.py``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import trio

from pipeline.contracts.snapshot import BreakerState, ShardSnapshot
from pipeline.contracts.store import Claim, DeadLetters, Fenced
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import TakenOver
from pipeline.postgres.ledger.tidying import Chore
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.recovery import Recovery
from pipeline.postgres.store.retry_policy import RetryPolicy
from pipeline.postgres.store.shard_partition import ShardPartition
from pipeline.postgres.store.tidier import Tidier
from pipeline.records.record import TopicPartition
from pipeline.runtime.backoff import Backoff

log = logging.getLogger(__name__)


class ShardStore:
    """The store of one shard.

    Args:
        shard: the database's connections, limits and breaker.
        connect: makes the database ready; called when the first partition is taken over.
        dead_letters: where records go that can never be applied.
        sizers: how large batches are.
        backoff: the waits between attempts.
        clock: seconds, for the length of transactions.
        others_work, details: see `Recovery`.
        policy: which records that can't be applied are tried again in a lane.
    """

    def __init__(
        self,
        shard: Shard,
        connect: Callable[[], Awaitable[Transactions]],
        dead_letters: DeadLetters,
        sizers: BatchSizers,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.perf_counter,
        others_work: Callable[[], bool] = lambda: False,
        *,
        details: bool = False,
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008 (never changes)
    ) -> None:
        self._shard = shard
        self._connect = connect
        self._connecting = trio.Lock()
        self._database: Transactions | None = None
        self._dead_letters = dead_letters
        self._policy = policy
        self._sizers = sizers
        self._recovery = Recovery(shard, sizers, backoff, clock, others_work, details=details)
        shard.mended = self._probe
        self._partitions: dict[Claim, ShardPartition] = {}  # as they were taken over last
        self._owned: frozenset[Claim] = frozenset()

    async def open(self, claim: Claim) -> ShardPartition:
        """See `Store.open`."""
        attempt = 0
        while True:
            await self._shard.breaker.wait_closed()
            try:
                database = await self._connected()
                async with self._shard.limiter.taking_over():
                    taken = await self._take_over(database, claim)
            except Fenced:
                raise
            except Exception as error:  # judged: what is not for retrying is raised
                await self._recovery.failed(error, attempt, f"taking over {claim.source}")
                attempt += 1
            else:
                partition = ShardPartition(
                    claim, taken, shard=self._shard, database=database,
                    sizers=self._sizers, recovery=self._recovery, dead_letters=self._dead_letters,
                    policy=self._policy,
                )  # fmt: skip
                self._partitions[claim] = partition
                return partition

    async def _take_over(self, database: Transactions, claim: Claim) -> TakenOver:
        if claim.lane is not None:
            return await self._partitions[claim.main].take_over_lane(claim)
        return await database.take_over(claim, self._shard.limiter.slots + 1)

    def forget(self, claim: Claim) -> None:
        """See `Store.forget`."""
        self._partitions.pop(claim, None)
        self._sizers.forget(claim)

    def snapshot(self) -> ShardSnapshot:
        """The shard as it is now."""
        return self._shard.snapshot()

    async def _probe(self) -> None:
        if self._database is not None:
            await self._database.probe()

    async def tidy(
        self, chores: Sequence[Chore], streams: Sequence[str], lag: Callable[[], float | None]
    ) -> None:
        """Delete what the ledger keeps for a time only, until cancelled: see `Tidier`."""
        ready = lambda: self._database is not None  # noqa: E731 (read where it is used)
        await Tidier(self._shard, chores, streams, lag, ready).run()

    def resize_batches(self, largest: int) -> None:
        """Let batches hold another number of records from now on. Not a checkpoint."""
        self._sizers.resize(largest)

    def refused(self, source: TopicPartition) -> int:
        """See `Recovery.refused`."""
        return self._recovery.refused[source]

    def answers(self, source: TopicPartition) -> bool:
        """See `Recovery.answers`."""
        return self._recovery.answers(source)

    async def _connected(self) -> Transactions:
        """The database, made ready when the first partition needs it: others may be away."""
        async with self._connecting:
            if self._database is None:
                self._database = await self._connect()
            return self._database

    async def fold(self, watermarks: Sequence[tuple[Claim, int]]) -> None:
        """See `Store.fold`. What fails is left to the next call: folding only saves space."""
        leases = [
            (self._partitions[claim].lease, watermark)
            for claim, watermark in watermarks
            if claim in self._partitions and not self._is_closed(claim)
        ]
        if (
            not leases
            or self._database is None
            or self._shard.breaker.state is not BreakerState.CLOSED
        ):
            return
        try:
            await self._database.fold(leases)
        except Exception as error:  # whatever it is, nothing is lost by it
            log.warning("shard %s: the ledger was not folded: %s", self._shard.name, explain(error))

    def _is_closed(self, claim: Claim) -> bool:
        """Whether it is a closed lane's: a fold that met its forgetting would leave a row behind."""
        owner = self._partitions.get(claim.main)
        return claim.lane is not None and owner is not None and owner.keeper.has_closed(claim.lane)

    async def voided(self, claims: Sequence[Claim]) -> list[Claim]:
        """See `Store.voided`.

        Who asks names all partitions that are ours. If these are others than at the last call, what
        is usual on the shard changes too: another instance has come or gone.
        """
        if self._owned != (owned := frozenset(claim for claim in claims if claim.lane is None)):
            for claim in self._owned - owned:
                self._sizers.forget(claim)
            self._owned = owned
            self._shard.limiter.relearn()
        leases = [self._partitions[claim].lease for claim in claims if claim in self._partitions]
        if (
            not leases
            or self._database is None
            or self._shard.breaker.state is not BreakerState.CLOSED
        ):
            return []
        try:
            return [lease.claim for lease in await self._database.voided(leases)]
        except Exception as error:  # the next look will tell
            log.debug("shard %s: leases were not looked at: %s", self._shard.name, explain(error))
            return []
