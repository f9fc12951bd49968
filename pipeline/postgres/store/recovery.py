"""What a shard's partitions do after a transaction: count it, wait and try again, or give up.

An error is judged (see `pipeline.postgres.connections.errors`) where the transaction was made; how
long to wait, whether the whole shard has to wait, and how the error is told, is the same for each of
the shard's partitions and is here.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio

from pipeline.contracts.log_events import event
from pipeline.contracts.snapshot import BreakerState
from pipeline.contracts.store import Claim
from pipeline.errors import PipelineError, UsageError
from pipeline.postgres.connections.errors import (
    HandlerFailed,
    Verdict,
    is_away,
    judge,
    may_pass,
    refuses_entry,
    rule_for,
    sqlstate_of,
)
from pipeline.postgres.connections.explanations import (
    entry_problem,
    explain,
    explain_without_values,
)
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.records.record import Record, TopicPartition
from pipeline.runtime.backoff import Backoff
from pipeline.runtime.recurring import Recurring

log = logging.getLogger(__name__)

AS_GIVEN = ("28", "3D", "3F", "42")
"""Classes of SQLSTATE by which a shard that has never worked refuses what was given: user, database,
schema, rights, names."""


class Recovery:
    """The answers to what transactions on one shard came to.

    Args:
        shard: the shard; its breaker is tripped if it does not answer.
        sizers: are told how long transactions took.
        backoff: the waits between attempts.
        clock: seconds, for the length of transactions.
        others_work: whether another shard works, so that this one may stop alone.
        details: whether messages may hold values of records.
    """

    def __init__(
        self,
        shard: Shard,
        sizers: BatchSizers,
        backoff: Backoff,
        clock: Callable[[], float] = time.perf_counter,
        others_work: Callable[[], bool] = lambda: False,
        *,
        details: bool = False,
    ) -> None:
        self.now = clock
        self._shard = shard
        self._sizers = sizers
        self._backoff = backoff
        self._others_work = others_work
        self._details = details
        self._put_off: Counter[TopicPartition] = Counter()
        self.refused: Counter[TopicPartition] = Counter()
        """How many transactions of each partition the server has refused for now, as for a lock."""
        self._recurring = Recurring(clock)
        self.successes = 0
        """How many transactions were applied: what tells a record's fault from the schema's."""
        self.condemned = 0
        """How many suspect records in a row became dead letters, since one was applied."""
        metrics, name = shard.metrics, shard.name
        self._retries = partial(metrics.retries.labels, name)
        self._batch_records = metrics.batch_records.labels(name)
        self._rows_written = metrics.rows_written.labels(name)

    def answers(self, source: TopicPartition) -> bool:
        """Whether what a partition writes through is there, as far as is known.

        That is its shard, and what its handler calls beside the shard.
        """
        return self._shard.breaker.state is BreakerState.CLOSED and not self._put_off[source]

    def applied(self, claim: Claim, records: int, rows: int, seconds: float) -> None:
        """Count one transaction: ``seconds`` from its batch's start to its end."""
        self._shard.breaker.worked()
        self.successes += 1
        self.condemned = 0
        self._sizers.of(claim).observe(records, seconds)
        self._shard.limiter.set_slots(slow=self._sizers.slow)
        self._batch_records.observe(records)
        self._rows_written.inc(rows)

    async def failed(
        self,
        error: Exception,
        attempt: int,
        doing: str,
        proof: Exception | None = None,
        *,
        records: Sequence[Record] = (),
    ) -> None:
        """Wait before another attempt. A checkpoint.

        ``proof`` is the same error as it was met over no rows: it quotes no value, so it is told.
        ``records`` are those that it was done with, if any.

        Raises:
            PipelineError: no attempt can help.
        """
        verdict = judge(error)
        if verdict not in (Verdict.RETRY, Verdict.IN_DOUBT) and not may_pass(error):
            await self.stopped(error, doing, proof)
            return
        self.retried(error, doing, records)
        sqlstate = sqlstate_of(error) or ""
        if verdict is Verdict.IN_DOUBT or is_away(error) or sqlstate.startswith("57P"):
            self._shard.drop_idle()
            self._shard.breaker.trip(explain(error), sqlstate_of(error))
            await self._shard.breaker.wait_closed()
        else:
            await self.pause(attempt)

    async def stopped(self, error: Exception, doing: str, proof: Exception | None = None) -> None:
        """Stop this shard until the cause is mended, if it may be mended while this instance runs.

        A checkpoint.

        Raises:
            PipelineError: no other shard works, or this one never did: the configuration is wrong.
        """
        stop = self.stop(error, doing, proof)
        if not self._may_heal(error):
            raise stop from error
        self._shard.drop_idle()  # a session keeps settings that it began with
        self._shard.breaker.stop(str(stop), sqlstate_of(error))
        await self._shard.breaker.wait_closed()

    def _may_heal(self, error: Exception) -> bool:
        """Whether to wait for a person. A password that is changed comes here a little later."""
        if refuses_entry(error):
            return self._shard.entered
        return bool(self.successes) and self._others_work()

    def explain(self, error: Exception) -> str:
        """One line on what went wrong with records; without their values unless these are wanted."""
        may_quote = isinstance(error, HandlerFailed) or judge(error) in (
            Verdict.REJECT,
            Verdict.SUSPECT,
        )
        return explain_without_values(error) if may_quote and not self._details else explain(error)

    async def pause(self, attempt: int) -> None:
        """Wait before another attempt. A checkpoint."""
        await trio.sleep(self._backoff.seconds(attempt))

    def retried(self, error: Exception, doing: str, records: Sequence[Record] = ()) -> None:
        """Count that something is tried again, and log it: each kind of error as `Recurring` says."""
        sqlstate = sqlstate_of(error)
        kind = sqlstate or type(error).__name__
        self._retries(kind).inc()
        if records and judge(error) is Verdict.RETRY:
            self.refused[records[0].source] += 1
        again = self._recurring.meet(kind)
        if again is None and not log.isEnabledFor(logging.DEBUG):
            return
        level = logging.DEBUG if again is None else logging.WARNING if again else logging.INFO
        often = f" ({kind}: {again})" if again else ""
        shard, told = self._shard.name, self.explain(error)
        facts = event("retried", shard=shard, sqlstate=sqlstate, reason=told, **span_of(records))
        log.log(level, "shard %s: %s will be retried%s: %s", shard, doing, often, told, extra=facts)

    @contextmanager
    def waiting(self, source: TopicPartition) -> Iterator[None]:
        """While this lasts, the partition waits for something beside its shard: see `answers`."""
        self._put_off[source] += 1
        try:
            yield
        finally:
            self._put_off[source] -= 1

    async def put_off(self, failed: HandlerFailed, attempt: int) -> None:
        """Wait before a handler is called again for what it could not do. A checkpoint."""
        source, name = failed.records[0].source, type(failed.error).__name__
        self._retries(f"handler: {name}").inc()
        why = self.explain(failed)
        facts = event("retried", shard=self._shard.name, reason=why, **span_of(failed.records))
        log.warning("%s will be tried again: %s", described(failed.records), why, extra=facts)
        with self.waiting(source):
            await self.pause(attempt)

    def stop(self, error: Exception, doing: str, proof: Exception | None = None) -> PipelineError:
        """The error that ends the program after ``error``, which came while ``doing`` something."""
        if isinstance(error, PipelineError):
            return error
        if refuses_entry(error):
            return UsageError(entry_problem(self._shard.name, self._shard.server, error))
        sqlstate = sqlstate_of(error)
        why = f": {rule_for(sqlstate).reason}" if sqlstate else ""
        told = self.explain(error) if proof is None else explain(proof)
        given = not self.successes and (sqlstate or "").startswith(AS_GIVEN)
        return (UsageError if given else PipelineError)(
            f"shard {self._shard.name}, {doing}: {told}{why}",
            cause=f"shard {self._shard.name}: {told}",
        )


def span_of(records: Sequence[Record]) -> dict[str, Any]:
    """Records of one partition, as fields of an event; they are not always all of their span."""
    if not records:
        return {}
    offsets = [record.offset for record in records]
    return {
        "source": records[0].source,
        "records": len(records),
        "offset": min(offsets),
        "until": max(offsets) + 1,
    }


def described(records: Sequence[Record]) -> str:
    """Records of one partition, for a message."""
    first, last = records[0], records[-1]
    if len(records) == 1:
        return str(first)
    return f"{len(records)} records of {first.source} (offsets {first.offset} … {last.offset})"
