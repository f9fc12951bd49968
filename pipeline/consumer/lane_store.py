"""A lane's store, which gives up what an operator has dropped instead of applying it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from pipeline.consumer.channels import Matches
from pipeline.contracts.rule import Rule
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
    """

    def __init__(
        self,
        store: PartitionStore,
        hold: Callable[[], Hold | None],
        matches: Callable[[Rule], Matches],
        dropped_first: Callable[[Hold], None],
    ) -> None:
        self._store = store
        self._hold = hold
        self._matches = matches
        self._dropped_first = dropped_first
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
        """See `PartitionStore.batch_limit`; a single record while the first one is to be given up."""
        hold = self._hold()
        alone = hold is not None and hold.state is HoldState.DROP_FIRST
        return 1 if alone else self._store.batch_limit

    @property
    def linger(self) -> float:
        """See `PartitionStore.linger`."""
        return self._store.linger

    def slot(self) -> AbstractAsyncContextManager[None]:
        """See `PartitionStore.slot`."""
        return self._store.slot()

    async def apply(self, writer: int, records: Sequence[Record]) -> None:
        """See `PartitionStore.apply`; what an operator has dropped is skipped, or becomes a dead letter."""
        hold = self._hold()
        if hold is not None:
            meant = self._matches(hold.rule)
            given_up = [record for record in records if meant(record)]
            if given_up and hold.state is HoldState.DROP_FIRST:
                given_up = given_up[:1]
                await self._store.reject(writer, given_up[0], _reason(hold))
                log.warning("%s is a dead letter now: dropped by hold %s", given_up[0], hold.id)
                self._dropped_first(hold)
            elif given_up and hold.state is HoldState.DROPPING:
                await self._store.skip(writer, given_up)
                self.skipped += len(given_up)
            else:
                given_up = []
            gone = {record.offset for record in given_up}
            records = [record for record in records if record.offset not in gone]
        if records:
            await self._store.apply(writer, records)


def _reason(hold: Hold) -> DeadLetterReason:
    return DeadLetterReason(f"an operator gave it up: hold {hold.id}, by {hold.by}", "Dropped")
