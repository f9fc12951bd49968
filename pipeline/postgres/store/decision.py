"""One batch on its way: what is found of its records until each of them is decided.

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
marked after that: see ``rejections.py``. If ``[errors]`` lets it wait instead, it is left undecided, with
what must not be applied before it.

A handler's own failure says nothing of the shard, and names the records of the call that failed. So
they are set aside and the others applied at once; then they are tried again, with a wait that grows.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import attrs

from pipeline.contracts.setback import Failure, Setback
from pipeline.contracts.store import Fenced
from pipeline.errors import PipelineError
from pipeline.postgres.connections.errors import (
    HandlerFailed,
    HandlerRetry,
    Verdict,
    judge,
    may_be_too_large,
    sqlstate_of,
)
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.parts import (
    Held,
    Part,
    around,
    divided,
    halves,
    held_up,
    set_aside,
    without,
)
from pipeline.postgres.store.recovery import Recovery, described
from pipeline.postgres.store.rejections import Rejected
from pipeline.postgres.store.retry_policy import HANDLER_RETRY, RetryPolicy
from pipeline.postgres.store.suspects import Suspects
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, offset_of

LOST_ATTEMPTS = 3
"""After so many attempts whose answer was lost, and that were not committed, a batch is cut: what ends its
connections (a time-out that is fatal, an operator's script) may let smaller ones through."""

log = logging.getLogger(__name__)

Outcome: TypeAlias = Sequence[Sequence[Record]] | HandlerFailed | Held | Failure
"""What is to become of a part: smaller parts are tried (none: it is decided), or it has to wait."""


@attrs.frozen
class Means:
    """What decides the batches of a partition.

    Attributes:
        shard: its breaker.
        database: its transactions.
        recovery: what follows an error.
        policy: what is tried again in a lane.
    """

    shard: Shard
    database: Transactions
    recovery: Recovery
    policy: RetryPolicy


class Decision:
    """One batch, in one call of `PartitionStore.apply`.

    Args:
        records: the batch.
        means: what decides it.
        lease: the writer's, as it is now.
        renew: told of the epoch that the writer has after a write in doubt was settled.
        keep: keeps what was rejected so far.
    """

    def __init__(
        self,
        records: Sequence[Record],
        means: Means,
        lease: Callable[[], Lease],
        renew: Callable[[int], None],
        keep: Callable[[Sequence[Rejected]], Awaitable[None]],
    ) -> None:
        self._records = records
        self._shard = means.shard
        self._database = means.database
        self._recovery = means.recovery
        self._policy = means.policy
        self._lease = lease
        self._renew = renew
        self._keep_these = keep
        self._todo: list[Part] = []  # the next one is last
        self._held: set[int] = set()  # offsets of what waits until the others are applied
        self._rejected: list[Rejected] = []  # not kept yet
        self._failures: list[Failure] = []
        self._undecided: set[int] = set()  # offsets of those, and of what waits for them
        self._suspects = Suspects(self._database, self._recovery)

    async def run(self) -> Setback | None:
        """Decide all that can be decided; see `PartitionStore.apply`."""
        readable = [record for record in self._records if record.disposition is None]
        self._todo = [(readable, 1)] if readable else []
        if len(readable) < len(self._records):
            self._settle_unreadable()
        await self._apply()
        await self._keep()
        if not self._failures:
            return None
        waiting = [record for record in self._records if record.offset in self._undecided]
        return Setback(self._failures, waiting)

    def _settle_unreadable(self) -> None:
        for record in self._records:
            if record.disposition is not None and record.offset not in self._undecided:
                self._settle(record, record.disposition)

    async def _keep(self) -> None:
        """Keep what was rejected, if anything was."""
        if rejected := self._rejected:
            self._rejected = []
            await self._keep_these(rejected)

    async def _apply(self) -> None:
        """Until all are decided. What can't be done yet waits until the others are."""
        waits = 0
        while self._todo or self._held:
            if not self._todo:
                await self._take_up_the_held()
                continue
            part, attempts = self._todo.pop()
            outcome = await self._decide(part, attempts)
            if isinstance(outcome, HandlerFailed):
                self._set_aside(part, attempts, outcome.records)
                await self._recovery.put_off(outcome, waits)
                waits += 1
            elif isinstance(outcome, Held):
                self._set_aside(part, attempts, [outcome.record])
                if outcome.suspected:
                    self._suspects.add(outcome)
                elif not self._todo:
                    await self._recovery.pause(waits)
                    waits += 1
                if self._suspects.enough:
                    self._held |= {record.offset for left, _ in self._todo for record in left}
                    self._todo = []
            elif isinstance(outcome, Failure):
                self._leave(outcome)
            else:
                self._todo += [(smaller, attempts + 1) for smaller in reversed(outcome)]

    def _set_aside(self, part: Sequence[Record], attempts: int, run: Sequence[Record]) -> None:
        self._todo = set_aside([*self._todo, (part, attempts)], run, self._held)

    async def _take_up_the_held(self) -> None:
        """All others are decided: judge the suspects, and try the rest again."""
        await self._keep()  # those that are held may take long
        guilty = await self._suspects.verdict()
        self._suspects.begin()
        held = self._held - {each.record.offset for each in guilty}
        self._held = set()
        self._todo = [([r for r in self._records if r.offset in held], 1)] if held else []
        for each in guilty:
            if each.record.offset not in self._undecided:
                self._settle(each.record, self._reason(each.error, each.attempts))

    # What becomes of a record that can't be applied

    def _settle(self, record: Record, why: DeadLetterReason) -> None:
        """Reject a record, or let it wait."""
        if failure := self._policy.failure_of(record, why):
            self._leave(failure)
        else:
            self._rejected.append((record, why))

    def _leave(self, failure: Failure) -> None:
        """Leave a record undecided, with all that is not decided yet and must not be before it."""
        self._failures.append(failure)
        record = failure.record
        waiting = {r.offset for part, _ in self._todo for r in part} | self._held
        later = sorted(
            (r for r in self._records if r.offset in waiting and r.offset > record.offset),
            key=offset_of,
        )
        self._undecided |= held_up([record, *later], [record])
        self._held -= self._undecided
        self._todo = without(self._todo, self._undecided)

    async def _decide(self, records: Sequence[Record], attempts: int) -> Outcome:
        """Apply records; or tell what to do instead: smaller parts, or to wait."""
        attempt, in_doubt, lost = 0, False, 0
        while True:
            await self._shard.breaker.wait_closed()
            try:
                if in_doubt and await self._was_committed(records):
                    return ()
                lost += in_doubt
                in_doubt = False
                if lost >= LOST_ATTEMPTS and len(records) > 1:
                    return halves(records)
                started = self._recovery.now()
                rows = await self._database.write(self._lease(), records)
                took = self._recovery.now() - started
                self._recovery.applied(self._lease().claim, len(records), rows, took)
                return ()
            except (Fenced, PipelineError):
                raise
            except Exception as error:  # judged below: rejected, retried, or raised
                verdict = judge(error)
                if verdict is Verdict.REJECT or self._waits_for_handler(error, verdict):
                    return self._refused(records, error, attempts + attempt)
                guilty = records
                if isinstance(error, HandlerFailed):
                    if verdict is Verdict.RETRY:
                        return error
                    guilty = error.records
                tries = attempts + attempt
                if not in_doubt and await self._may_divide(error, tries, attempt):
                    doing = f"applying {described(records)} in smaller parts"
                    self._recovery.retried(error, doing, records)
                    return divided(records, error, tries)
                in_doubt = in_doubt or verdict is Verdict.IN_DOUBT
                doing, proof = f"applying {described(guilty)}", self._suspects.proof
                await self._recovery.failed(error, attempt, doing, proof, records=guilty)
                attempt += 1

    def _waits_for_handler(self, error: Exception, verdict: Verdict) -> bool:
        """Whether a handler wants to be called again, and the record that it is for waits in a lane."""
        if not isinstance(error, HandlerFailed) or verdict is not Verdict.RETRY:
            return False
        asked = isinstance(error.error, HandlerRetry)
        return asked and self._policy.ends_handler_retries(error.records)

    async def _may_divide(self, error: Exception, tries: int, attempt: int) -> bool:
        """Whether an error may have to do with the records; otherwise the same is tried again."""
        if judge(error) is Verdict.SUSPECT:
            return not await self._suspects.cleared(error, attempt)
        return may_be_too_large(error) and tries >= 2

    async def _was_committed(self, records: Sequence[Record]) -> bool:
        epoch, committed = await self._database.resolve(self._lease(), records)
        self._renew(epoch)
        log.info(
            "%s: the ledger says %s", described(records), "applied" if committed else "not applied"
        )
        return committed

    def _refused(self, records: Sequence[Record], error: Exception, attempts: int) -> Outcome:
        """A record is at fault: parts of them to find it in, until it stands alone."""
        if isinstance(error, HandlerFailed) and len(error.records) < len(records):
            return around(records, error.records)
        if len(records) > 1:
            return halves(records)
        why = self._reason(error, attempts)
        if failure := self._policy.failure_of(records[0], why):
            return failure
        self._rejected.append((records[0], why))
        return ()

    def _reason(self, error: Exception, attempts: int) -> DeadLetterReason:
        cause = error.error if isinstance(error, HandlerFailed) else error
        if isinstance(cause, HandlerRetry):  # its text may hold values, other than a refusal's
            return DeadLetterReason(self._recovery.explain(error), HANDLER_RETRY, None, attempts)
        return DeadLetterReason(
            self._recovery.explain(cause), type(cause).__name__, sqlstate_of(cause), attempts
        )
