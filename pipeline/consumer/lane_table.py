"""Which lanes a partition has, and which of them answers for a record.

Whoever passes over a record, whoever reads it again, and every later owner go by the same predicate: of
the lanes whose rule and range have the record, the oldest. So each record has exactly one way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter

from pipeline.consumer.channels import Matches
from pipeline.consumer.rule_index import RuleIndex, matcher
from pipeline.contracts.lane import Lane
from pipeline.contracts.rule import Rule
from pipeline.records.record import Record
from pipeline.records.tenant import TenantOf


class LaneTable:
    """The lanes of a partition that are not forgotten, open and closed.

    Args:
        tenant_of: a record's tenant; asked only while there is a lane of a tenant.
    """

    def __init__(self, tenant_of: TenantOf) -> None:
        self._tenant_of = tenant_of
        self._lanes: dict[int, Lane] = {}
        self._index: RuleIndex[Lane] = RuleIndex(attrgetter("rule"), tenant_of)

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def put(self, *lanes: Lane) -> None:
        """Add lanes, or what became of one that is here."""
        self._lanes |= {lane.number: lane for lane in lanes}
        self._settle()

    def forget(self, numbers: Iterable[int]) -> None:
        """Leave lanes out whose rows are gone."""
        for number in numbers:
            self._lanes.pop(number, None)
        self._settle()

    def _settle(self) -> None:
        self._lanes = dict(sorted(self._lanes.items()))
        self._index.fill(self._lanes.values())

    @property
    def newest(self) -> int:
        """The largest number; 0 without lanes."""
        return max(self._lanes, default=0)

    def open_lane_of(self, rule: Rule) -> Lane | None:
        """Return the lane of a rule that is not closed; there is never more than one."""
        return next((x for x in self if x.rule == rule and x.until_offset is None), None)

    def lane_of(self, record: Record) -> Lane | None:
        """Return the lane that answers for a record; None: the main way has it."""
        found = [lane for lane in self._index.of(record) if lane.covers(record.offset)]
        return min(found, key=attrgetter("number"), default=None)

    def matches(self, rule: Rule) -> Matches:
        """Return whether a record is a rule's, as a function."""
        return matcher(rule, self._tenant_of)
