"""The store: every record of a batch is decided, whatever Postgres says.

This is where an error becomes a verdict (see `errors`), the same for a real database and for a
simulated one:

- retried without end, while the shard is away or busy;
- settled by the ledger first, where an answer was lost;
- halved until the guilty record stands alone, where a row was refused;
- cut into smaller parts, where it took too long or met a lock a second time; a record that fails so
  alone waits, with the later ones of its keys, until the others are applied;
- suspected and halved, where the error may be a record's fault or the schema's: see ``suspects.py``;
- raised, where retrying can't help.

Parts are applied one after the other, so records of one key stay in order. What was rejected is kept and
marked after that: see ``rejections.py``.

A handler's own failure says nothing of the shard, and names the records of the call that failed. So
they are set aside and the others applied at once; then they are tried again, with a wait that grows.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from pipeline.contracts.lane import Lane
from pipeline.contracts.snapshot import DEAD_LETTERS
from pipeline.contracts.store import Claim, DeadLetters, Fenced, ServerChanged
from pipeline.errors import PipelineError
from pipeline.postgres.connections.errors import (
    HandlerFailed,
    Verdict,
    judge,
    may_be_too_large,
    sqlstate_of,
)
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease, TakenOver
from pipeline.postgres.store.batch_sizer import BatchSizer
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.lane_keeper import LaneKeeper
from pipeline.postgres.store.parts import Held, Part, around, divided, halves, set_aside
from pipeline.postgres.store.recovery import Recovery, described
from pipeline.postgres.store.rejections import Rejected, Rejections
from pipeline.postgres.store.suspects import Suspects
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
        sizer: how large batches are.
        recovery: what follows an error.
        dead_letters: where records go that can never be applied.
    """

    def __init__(
        self,
        claim: Claim,
        taken: TakenOver,
        *,
        shard: Shard,
        database: Transactions,
        sizer: BatchSizer,
        recovery: Recovery,
        dead_letters: DeadLetters,
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
        self._sizer = sizer
        self._recovery = recovery
        self._rejections = Rejections(shard, database, recovery, dead_letters)
        self._rejected: list[list[Rejected]] = [[] for _ in self._leases]  # by writer, not kept yet

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
        return self._sizer.limit if full else self._sizer.spreading

    @property
    def linger(self) -> float:
        """See `PartitionStore.linger`."""
        return self._sizer.linger

    def slot(self) -> AbstractAsyncContextManager[None]:
        """See `PartitionStore.slot`."""
        return self._shard.limiter.slot()

    async def apply(self, writer: int, records: Sequence[Record]) -> None:
        """See `PartitionStore.apply`."""
        await self._explained(self._decide_all(writer, records))

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

    async def _decide_all(self, writer: int, records: Sequence[Record]) -> None:
        self._rejected[writer] = [
            (record, record.disposition) for record in records if record.disposition is not None
        ]
        records = [record for record in records if record.disposition is None]
        if records:
            await self._apply(writer, records)
        await self._keep(writer)

    async def _keep(self, writer: int) -> None:
        """Keep what was rejected, if anything was."""
        if rejected := self._rejected[writer]:
            self._rejected[writer] = []
            await self._rejections.keep(self._leases[writer], rejected)

    async def _server_changed(self) -> bool:
        """Whether the leases are void because the database is another one, as far as it tells."""
        try:
            return bool(await self._database.voided([self.lease]))
        except Exception as error:  # asked again when the partition is taken over
            log.info("whose fault a void lease is was not told: %s", explain(error))
            return False

    async def _apply(self, writer: int, records: Sequence[Record]) -> None:
        """Until all are decided. What can't be done yet waits until the others are."""
        todo: list[Part] = [(records, 1)]  # the next one is last
        held: set[int] = set()  # offsets
        suspects = Suspects(self._database, self._recovery)
        waits = 0
        while todo or held:
            if not todo:
                await self._keep(writer)  # those that are held may take long
                held -= await self._judged(writer, suspects)
                todo = [([r for r in records if r.offset in held], 1)] if held else []
                held = set()
                continue
            part, attempts = todo.pop()
            outcome = await self._decide(writer, part, attempts, suspects)
            if isinstance(outcome, HandlerFailed):
                todo = set_aside([*todo, (part, attempts)], outcome.records, held)
                await self._recovery.put_off(outcome, waits)
                waits += 1
            elif isinstance(outcome, Held):
                todo = set_aside([*todo, (part, attempts)], [outcome.record], held)
                if outcome.suspected:
                    suspects.add(outcome)
                elif not todo:
                    await self._recovery.pause(waits)
                    waits += 1
                if suspects.enough:
                    held |= {record.offset for left, _ in todo for record in left}
                    todo = []
            else:
                todo += [(smaller, attempts + 1) for smaller in reversed(outcome)]

    async def _judged(self, writer: int, suspects: Suspects) -> set[int]:
        """Reject the suspects that are at fault; return their offsets.

        Raises:
            PipelineError: it is the schema's or the server's fault.
        """
        guilty = await suspects.verdict()
        self._rejected[writer] += [
            (each.record, self._reason(each.error, each.attempts)) for each in guilty
        ]
        suspects.begin()
        return {each.record.offset for each in guilty}

    async def _decide(
        self, writer: int, records: Sequence[Record], attempts: int, suspects: Suspects
    ) -> Sequence[Sequence[Record]] | HandlerFailed | Held:
        """Apply records or keep them; or tell what to do instead: smaller parts, or to wait."""
        attempt, in_doubt = 0, False
        while True:
            await self._shard.breaker.wait_closed()
            try:
                if in_doubt and await self._was_committed(writer, records):
                    return ()
                in_doubt = False
                started = self._recovery.now()
                rows = await self._database.write(self._leases[writer], records)
                self._recovery.applied(len(records), rows, self._recovery.now() - started)
                return ()
            except (Fenced, PipelineError):
                raise
            except Exception as error:  # judged below: rejected, retried, or raised
                verdict = judge(error)
                if verdict is Verdict.REJECT:
                    return self._refused(writer, records, error, attempts + attempt)
                guilty = records
                if isinstance(error, HandlerFailed):
                    if verdict is Verdict.RETRY:
                        return error
                    guilty = error.records
                tries = attempts + attempt
                if not in_doubt and await self._may_divide(error, suspects, tries, attempt):
                    doing = f"applying {described(records)} in smaller parts"
                    self._recovery.retried(error, doing, records)
                    return divided(records, error, tries)
                in_doubt = in_doubt or verdict is Verdict.IN_DOUBT
                doing, proof = f"applying {described(guilty)}", suspects.proof
                await self._recovery.failed(error, attempt, doing, proof, records=guilty)
                attempt += 1

    async def _may_divide(
        self, error: Exception, suspects: Suspects, tries: int, attempt: int
    ) -> bool:
        """Whether an error may have to do with the records; otherwise the same is tried again."""
        if judge(error) is Verdict.SUSPECT:
            return not await suspects.cleared(error, attempt)
        return may_be_too_large(error) and tries >= 2

    async def _was_committed(self, writer: int, records: Sequence[Record]) -> bool:
        lease = self._leases[writer]
        epoch, committed = await self._database.resolve(lease, records)
        self._leases[writer] = Lease(lease.claim, writer, epoch)
        log.info(
            "%s: the ledger says %s", described(records), "applied" if committed else "not applied"
        )
        return committed

    def _refused(
        self, writer: int, records: Sequence[Record], error: Exception, attempts: int
    ) -> Sequence[Sequence[Record]]:
        """A record is at fault: parts of them to find it in, until it stands alone."""
        if isinstance(error, HandlerFailed) and len(error.records) < len(records):
            return around(records, error.records)
        if len(records) > 1:
            return halves(records)
        self._rejected[writer].append((records[0], self._reason(error, attempts)))
        return ()

    def _reason(self, error: Exception, attempts: int) -> DeadLetterReason:
        cause = error.error if isinstance(error, HandlerFailed) else error
        return DeadLetterReason(
            self._recovery.explain(cause), type(cause).__name__, sqlstate_of(cause), attempts
        )
