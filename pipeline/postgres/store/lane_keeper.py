"""What a partition's owner does to its lanes, under the fence.

The keeper is a writer of the partition as any other, with a lease of its own, but it writes no batches. If
the answer to one of its statements was lost, the lease's epoch is raised, which waits for a statement that
still runs and fences one that is still to come; then the statement is made again, and does nothing if it
was done already. Batches in flight have leases of their own and don't notice.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from pipeline.contracts.lane import Lane, LaneFailure
from pipeline.contracts.store import Claim, Fenced
from pipeline.errors import PipelineError
from pipeline.postgres.connections.errors import Verdict, judge
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.recovery import Recovery

log = logging.getLogger(__name__)

T = TypeVar("T")


class LaneKeeper:
    """The keeper of one partition's lanes, while the partition is ours.

    Args:
        lease: its lease.
        lanes: the lanes as of the take-over.
        last_lane: the largest number that a lane of the partition ever had.
        shard: its breaker.
        database: its transactions.
        recovery: what follows an error.
    """

    def __init__(
        self,
        lease: Lease,
        lanes: Sequence[Lane],
        last_lane: int,
        *,
        shard: Shard,
        database: Transactions,
        recovery: Recovery,
    ) -> None:
        self.lease = lease
        self.last_lane = last_lane
        self._closed = {lane.number for lane in lanes if lane.until_offset is not None}
        self._shard = shard
        self._database = database
        self._recovery = recovery
        self._one_at_a_time = trio.Lock()

    async def open(self, lane: Lane) -> None:
        """See `PartitionStore.open_lane`."""
        if lane.number <= self.last_lane:
            raise ValueError(f"lane {lane.number}: the last one's number was {self.last_lane}")
        self.last_lane = lane.number
        await self._do(
            lambda: self._database.open_lane(self.lease, lane),
            f"opening lane {lane.number} of {self.lease.claim.source}",
        )

    async def close(self, number: int, until: int) -> None:
        """See `PartitionStore.close_lane`."""
        await self._do(
            lambda: self._database.close_lane(self.lease, number, until),
            f"closing lane {number} of {self.lease.claim.source}",
        )
        self._closed.add(number)

    async def note(self, number: int, failure: LaneFailure | None) -> None:
        """See `PartitionStore.note_failure`."""
        await self._do(
            lambda: self._database.note_failure(self.lease, number, failure),
            f"noting what holds up lane {number} of {self.lease.claim.source}",
        )

    async def forget(self) -> list[int]:
        """See `PartitionStore.forget_lanes`."""
        if not self._closed:
            return []
        left = await self._do(
            lambda: self._database.forget_lanes(self.lease),
            f"forgetting closed lanes of {self.lease.claim.source}",
        )
        # Not what a statement says that it deleted: the one whose answer was lost may have done it.
        gone = sorted(self._closed.difference(left))
        self._closed.intersection_update(left)
        return gone

    def has_closed(self, number: int) -> bool:
        """Whether a lane is closed, and not forgotten yet."""
        return number in self._closed

    async def take_over(self, claim: Claim) -> TakenOver:
        """Take a lane of the partition over, once: what fails is raised, as `Transactions` raises it.

        It may wait long for the lane's former owner, and holds up no other work of the keeper.
        """
        while True:
            lease = self.lease
            try:
                return await self._database.take_over(claim, 1, lease)
            except Fenced as error:
                fenced = error
            async with self._one_at_a_time:  # the epoch may be being raised, by ourselves
                if lease == self.lease:
                    raise fenced

    async def _do(self, work: Callable[[], Awaitable[T]], doing: str) -> T:
        """Until it is done, in the order asked for. A checkpoint."""
        async with self._one_at_a_time:
            attempt, in_doubt = 0, False
            while True:
                await self._shard.breaker.wait_closed()
                try:
                    if in_doubt:
                        await self._settle()
                        in_doubt = False
                    return await work()
                except (Fenced, PipelineError):
                    raise
                except Exception as error:  # judged: what is not for retrying is raised
                    in_doubt = in_doubt or judge(error) is Verdict.IN_DOUBT
                    await self._recovery.failed(error, attempt, doing)
                    attempt += 1

    async def _settle(self) -> None:
        """Raise the epoch: what was sent before has come to an end, or never will be done."""
        epoch, _ = await self._database.resolve(self.lease, [])
        self.lease = Lease(self.lease.claim, self.lease.writer, epoch)
        log.info("%s: what was asked about its lanes is asked again", self.lease.claim.source)
