"""Which key fills a partition: the one that is to get a lane, so that the others need not wait.

A look a second, and only at a partition that is half full or more: when it is full the others wait already,
and two looks are needed. Nothing is counted as records come and go.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice

import attrs

from pipeline.consumer.channels import Channels
from pipeline.contracts.rule import Rule, RuleKind
from pipeline.records.record import Record
from pipeline.records.tenant import PLAIN, TenantOf

SAMPLE = 1000
"""So many of the waiting records are looked at."""

PART = 4
"""A key may fill one part in so many of what waits."""

AGAIN_SECONDS = 60.0
"""For so long after its lane was closed a key needs twice as much to get another."""


@attrs.frozen
class _Look:
    """What the last look found: the key with most records, and the newest that waited."""

    value: Hashable
    newest: int


class Overflow:
    """Looks at what waits in a partition that fills up.

    Args:
        kind: whether a key or a tenant gets a lane.
        tenant_of: a record's tenant.
    """

    def __init__(self, kind: RuleKind, tenant_of: TenantOf) -> None:
        self._kind = kind
        self._value_of = tenant_of if kind == "tenant" else _key_of
        self._last: _Look | None = None
        self._closed: dict[Rule, float] = {}

    def closed(self, rule: Rule, now: float) -> None:
        """A lane of a rule was closed just now."""
        self._closed = {key: at for key, at in self._closed.items() if at > now - AGAIN_SECONDS}
        self._closed[rule] = now

    def look(self, channels: Channels, filling: bool, most: int | None, now: float) -> Rule | None:
        """Return whose records fill the partition; None if nobody's do. Not a checkpoint.

        Somebody's do if more than ``most`` of them wait (None: a quarter of all), and some of them waited
        at the last look too: a key that is kept up with needs no lane.
        """
        last, self._last = self._last, None
        if not filling or not channels.waiting:
            return None
        step = -(-channels.waiting // SAMPLE)
        sample = list(islice(channels.waiting_records(), 0, None, step))
        offsets_of: dict[Hashable, list[int]] = {}
        for record in sample:
            offsets_of.setdefault(self._value_of(record), []).append(record.offset)
        offsets_of.pop(None, None)
        value, offsets = max(offsets_of.items(), key=_size, default=(None, []))
        if not isinstance(value, PLAIN):
            return None
        limit = channels.waiting / PART if most is None else most
        self._last = _Look(value, max(offsets))
        if last is None or last.value != value or min(offsets) > last.newest:
            return None
        rule = Rule(self._kind, value)
        if self._closed.get(rule, -AGAIN_SECONDS) > now - AGAIN_SECONDS:
            limit *= 2
        return rule if len(offsets) * step > limit else None


def _key_of(record: Record) -> Hashable:
    """The key, if it is one that can be named."""
    return record.ordering if isinstance(record.ordering, PLAIN) else None


def _size(found: tuple[Hashable, list[int]]) -> int:
    return len(found[1])
