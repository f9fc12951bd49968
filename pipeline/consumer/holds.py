"""Operators' holds, as one partition sees them: which records they stop, and what a lane is to do."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter

from pipeline.consumer.rule_index import RuleIndex
from pipeline.contracts.lane import Lane
from pipeline.contracts.wish import Hold, HoldState
from pipeline.contracts.wishes import Wishes
from pipeline.records.record import Record
from pipeline.records.tenant import TenantOf

STOPPING = (HoldState.HOLDING, HoldState.DROP_FIRST)
"""States in which the records wait."""


class Holds:
    """The holds that are wished now.

    Args:
        wishes: where they are.
        tenant_of: a record's tenant; asked only while a tenant is held.
    """

    def __init__(self, wishes: Wishes, tenant_of: TenantOf) -> None:
        self._wishes = wishes
        self._all: tuple[Hold, ...] = ()
        self._stopping: RuleIndex[Hold] = RuleIndex(attrgetter("rule"), tenant_of)

    def refresh(self) -> int:
        """Learn what is wished now; return the version of the wishes. Not a checkpoint."""
        self._all = tuple(self._wishes.holds())
        self._stopping.fill(self.stopping)
        return self._wishes.version

    @property
    def stopping(self) -> list[Hold]:
        """The holds whose records wait."""
        return [hold for hold in self._all if hold.state in STOPPING]

    def stops(self, record: Record) -> Hold | None:
        """Return a hold that lets a record wait; None if it may be applied."""
        return next(iter(self._stopping.of(record)), None) if self._stopping else None

    def of(self, lane: Lane, met: Collection[str]) -> Hold | None:
        """Return the hold that a lane obeys; None if it is to be worked through.

        That is one with the lane's own rule, whatever the lane was opened for, or one whose records were
        met in the lane. One that lets records wait goes before one that drops them.

        Args:
            met: the ids of holds of which the lane has records.
        """
        mine = [hold for hold in self._all if hold.rule == lane.rule or hold.id in met]
        stopping = [hold for hold in mine if hold.state in STOPPING]
        dropping = [hold for hold in mine if _drops(hold, lane)]
        return next(iter(stopping or dropping), None)


def _drops(hold: Hold, lane: Lane) -> bool:
    """Whether what waits in a lane is to be skipped: not if the lane was opened later, for another reason."""
    if hold.state is not HoldState.DROPPING:
        return False
    return hold.id == lane.hold or lane.opened_at * 1000 < hold.changed
