"""What keeps the ledgers of a partition's lanes small: they are folded, and closed lanes are forgotten."""

from __future__ import annotations

import attrs
import trio

from pipeline.consumer.lanes import Lanes
from pipeline.contracts.store import Claim, PartitionStore, Store

TIDY_SECONDS = 1.0
"""How often lanes' ledgers are folded, and closed lanes forgotten."""


class LaneTidier:
    """Folds the ledgers of a partition's lanes, and forgets those that no owner will need any more.

    Args:
        lanes: the lanes.
        store: where they are folded.
        claim: on the partition.
        partition: the store of the partition, as it was taken over.
    """

    def __init__(self, lanes: Lanes, store: Store, claim: Claim, partition: PartitionStore) -> None:
        self._lanes = lanes
        self._store = store
        self._claim = claim
        self._partition = partition
        self._folded: dict[int, int] = {}

    async def run(self) -> None:
        """Fold and forget until cancelled.

        Raises:
            As `PartitionStore.forget_lanes`.
        """
        while True:
            await trio.sleep(TIDY_SECONDS)
            await self._fold()
            if self._may_forget():
                numbers = await self._partition.forget_lanes()
                self._lanes.table.forget(numbers)
                self._lanes.arm()
                for number in numbers:
                    self._store.forget(attrs.evolve(self._claim, lane=number))

    def _may_forget(self) -> bool:
        """Whether there are closed lanes, and none that a younger one must know of.

        A younger lane that may meet its records, which has still to read below the end of a closed one, or
        would have to after a restart, would answer for what that one has applied. It may be of the same rule:
        after a restart the main way may meet held records below the lane that there is.
        """
        lanes = list(self._lanes.table)
        closed = [(lane, lane.until_offset) for lane in lanes if lane.until_offset is not None]
        return bool(closed) and not any(
            lane.until_offset is None
            and lane.number > older.number
            and lane.rule.may_meet(older.rule)
            and lane.from_offset < until
            for lane in lanes
            for older, until in closed
        )

    async def _fold(self) -> None:
        """Fold lanes' ledgers up to where all that they answer for is applied."""
        marks = {number: task.watermark for number, task in self._lanes.tasks.items()}
        moved = {n: mark for n, mark in marks.items() if mark and mark != self._folded.get(n)}
        if moved:
            claims = [(attrs.evolve(self._claim, lane=n), mark) for n, mark in moved.items()]
            await self._store.fold(claims)
        self._folded = {**{n: m for n, m in self._folded.items() if n in marks}, **moved}
