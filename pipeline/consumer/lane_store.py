"""A lane's store, which gives up what an operator has dropped instead of applying it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from pipeline.consumer.channels import Matches
from pipeline.consumer.lane_retries import LaneRetries
from pipeline.contracts.log_events import event
from pipeline.contracts.rule import Rule
from pipeline.contracts.setback import Setback
from pipeline.contracts.store import PartitionStore
from pipeline.contracts.wish import Hold, HoldState
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record

log = logging.getLogger(__name__)


class LaneStore:
    """The store as a lane's writer sees it; see `Writing`.

    Args:
        store: where records are applied.
        hold: the hold that the lane obeys now.
        matches: whether a record is a rule's, as a function.
        dropped_first: called when the first record was given up, as an operator wished.
        retries: what failed in the lane.
    """

    def __init__(
        self,
        store: PartitionStore,
        hold: Callable[[], Hold | None],
        matches: Callable[[Rule], Matches],
        dropped_first: Callable[[Hold], None],
        retries: LaneRetries,
    ) -> None:
        self._store = store
        self._hold = hold
        self._matches = matches
        self._dropped_first = dropped_first
        self._retries = retries
        self.skipped = 0
        """Records that were given up for good."""

    @property
    def writers(self) -> int:
        """See `PartitionStore.writers`."""
        return self._store.writers

    @property
    def waits_for(self) -> str:
        """See `PartitionStore.waits_for`."""
        return self._store.waits_for

    @property
    def batch_limit(self) -> int:
        """See `PartitionStore.batch_limit`; a single record while one is to be given up."""
        hold = self._hold()
        first = hold is not None and hold.state is HoldState.DROP_FIRST
        return 1 if first or self._retries.gives_up else self._store.batch_limit

    @property
    def linger(self) -> float:
        """See `PartitionStore.linger`."""
        return self._store.linger

    def slot(self) -> AbstractAsyncContextManager[None]:
        """See `PartitionStore.slot`."""
        return self._store.slot()

    async def apply(self, writer: int, records: Sequence[Record]) -> Setback | None:
        """See `PartitionStore.apply`; what is given up is skipped, or becomes a dead letter."""
        left = await self._without_dropped(writer, records)
        left = await self._without_failed(writer, left)
        setback = await self._store.apply(writer, left) if left else None
        self._retries.decided(records, setback)
        return setback

    async def _without_dropped(self, writer: int, records: Sequence[Record]) -> Sequence[Record]:
        """Give up what an operator has dropped; return the rest."""
        hold = self._hold()
        if hold is None:
            return records
        meant = self._matches(hold.rule)
        given_up = [record for record in records if meant(record)]
        if given_up and hold.state is HoldState.DROP_FIRST:
            given_up = given_up[:1]
            await self._store.reject(writer, given_up[0], _reason(hold))
            first = given_up[0]
            facts = event(
                "dropped", source=first.source, wish=hold.id, offset=first.offset, records=1
            )  # fmt: skip
            log.warning("%s is a dead letter now: dropped by hold %s", first, hold.id, extra=facts)
            self._dropped_first(hold)
        elif given_up and hold.state is HoldState.DROPPING:
            await self._store.skip(writer, given_up)
            self.skipped += len(given_up)
        else:
            return records
        gone = {record.offset for record in given_up}
        return [record for record in records if record.offset not in gone]

    async def _without_failed(self, writer: int, records: Sequence[Record]) -> Sequence[Record]:
        """Give up what was tried for long enough, or an operator has ruled so; return the rest."""
        left = []
        for record in records:
            if (why := self._retries.given_up(record)) is not None:
                await self._store.reject(writer, record, why)
            else:
                left.append(record)
        return left


def _reason(hold: Hold) -> DeadLetterReason:
    return DeadLetterReason(f"an operator gave it up: hold {hold.id}, by {hold.by}", "Dropped")
