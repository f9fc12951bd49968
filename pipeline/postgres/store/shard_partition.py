"""The store as the owner of a partition, or of a lane, sees it: a lease for each writer.

How a batch is decided, whatever Postgres says of it, is told in ``decision.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.setback import Setback
from pipeline.contracts.snapshot import DEAD_LETTERS
from pipeline.contracts.store import Claim, DeadLetters, Fenced, ServerChanged
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.decision import Decision, Means
from pipeline.postgres.store.lane_keeper import LaneKeeper
from pipeline.postgres.store.recovery import Recovery
from pipeline.postgres.store.rejections import Rejected, Rejections
from pipeline.postgres.store.retry_policy import RetryPolicy
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record

log = logging.getLogger(__name__)

T = TypeVar("T")

GIVEN_UP = DeadLetterReason("given up by an operator, who let it be skipped", "GivenUp", None, 0)
"""Why a record is decided that was neither applied nor kept."""


class ShardPartition:
    """One partition's share of a shard, or one lane's, while it is ours: a lease for each writer.

    Args:
        claim: the partition, or the lane.
        taken: what the take-over gave. The last of a partition's writers keeps its lanes.
        shard: its slots and its breaker.
        database: its transactions.
        sizers: how large batches are.
        recovery: what follows an error.
        dead_letters: where records go that can never be applied.
        policy: which of them are tried again in a lane instead.
    """

    def __init__(
        self,
        claim: Claim,
        taken: TakenOver,
        *,
        shard: Shard,
        database: Transactions,
        sizers: BatchSizers,
        recovery: Recovery,
        dead_letters: DeadLetters,
        policy: RetryPolicy,
    ) -> None:
        self.applied = taken.applied
        self.lanes = taken.lanes
        self.shape = database.shape
        self._leases = [Lease(claim, writer, epoch) for writer, epoch in enumerate(taken.epochs)]
        self._keeper = None if claim.lane is not None else LaneKeeper(
            self._leases.pop(), taken.lanes, taken.last_lane,
            shard=shard, database=database, recovery=recovery,
        )  # fmt: skip
        self.writers = len(self._leases)
        self._shard = shard
        self._database = database
        self._claim = claim
        self._sizers = sizers
        self._rejections = Rejections(shard, database, recovery, dead_letters)
        self._means = Means(shard, database, recovery, policy)

    @property
    def waits_for(self) -> str:
        """See `PartitionStore.waits_for`."""
        return DEAD_LETTERS if self._rejections.keeping else "a transaction in the database"

    @property
    def keeper(self) -> LaneKeeper:
        """What opens and closes the partition's lanes; a lane has none of its own."""
        assert self._keeper is not None, "a lane has no lanes"
        return self._keeper

    @property
    def last_lane(self) -> int:
        """See `PartitionStore.last_lane`."""
        return 0 if self._keeper is None else self._keeper.last_lane

    @property
    def lease(self) -> Lease:
        """The first writer's lease, as it is now: it stands for the partition's."""
        return self._leases[0]

    @property
    def batch_limit(self) -> int:
        """See `PartitionStore.batch_limit`."""
        full = self._shard.limiter.saturated
        sizer = self._sizers.of(self._claim)
        return sizer.limit if full else sizer.spreading

    @property
    def linger(self) -> float:
        """See `PartitionStore.linger`."""
        return self._sizers.of(self._claim).linger

    def slot(self) -> AbstractAsyncContextManager[None]:
        """See `PartitionStore.slot`."""
        return self._shard.limiter.slot()

    async def apply(self, writer: int, records: Sequence[Record]) -> Setback | None:
        """See `PartitionStore.apply`."""
        return await self._explained(self._decide(writer, records))

    async def reject(self, writer: int, record: Record, reason: DeadLetterReason) -> None:
        """See `PartitionStore.reject`."""
        await self._explained(self._rejections.keep(self._leases[writer], [(record, reason)]))

    async def skip(self, writer: int, records: Sequence[Record]) -> None:
        """See `PartitionStore.skip`."""
        await self._explained(
            self._rejections.mark(self._leases[writer], records, GIVEN_UP, "giving up")
        )

    async def open_lane(self, lane: Lane) -> None:
        """See `PartitionStore.open_lane`."""
        await self._explained(self.keeper.open(lane))

    async def note_failure(self, number: int, failure: LaneFailure | None) -> None:
        """See `PartitionStore.note_failure`."""
        await self._explained(self.keeper.note(number, failure))

    async def close_lane(self, number: int, until: int) -> None:
        """See `PartitionStore.close_lane`."""
        await self._explained(self.keeper.close(number, until))

    async def forget_lanes(self) -> Sequence[int]:
        """See `PartitionStore.forget_lanes`."""
        return await self._explained(self.keeper.forget())

    async def take_over_lane(self, claim: Claim) -> TakenOver:
        """Take over a lane of the partition; see `LaneKeeper.take_over`."""
        return await self._explained(self.keeper.take_over(claim))

    async def _explained(self, work: Awaitable[T]) -> T:
        """Do it; if that is fenced because the database is another one now, say so."""
        try:
            return await work
        except Fenced as error:
            fenced = error
        if await self._server_changed():
            raise ServerChanged(str(fenced)) from fenced
        raise fenced

    async def _decide(self, writer: int, records: Sequence[Record]) -> Setback | None:
        def renew(epoch: int) -> None:
            lease = self._leases[writer]
            self._leases[writer] = Lease(lease.claim, writer, epoch)

        async def keep(rejected: Sequence[Rejected]) -> None:
            await self._rejections.keep(self._leases[writer], rejected)

        decision = Decision(records, self._means, lambda: self._leases[writer], renew, keep)
        return await decision.run()

    async def _server_changed(self) -> bool:
        """Whether the leases are void because the database is another one, as far as it tells."""
        try:
            return bool(await self._database.voided([self.lease]))
        except Exception as error:  # asked again when the partition is taken over
            log.info("whose fault a void lease is was not told: %s", explain(error))
            return False
