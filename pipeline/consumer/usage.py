"""Who uses the pipeline: what each tenant, and each key, has had applied of late.

It exists where ``[records] tenant`` says what a tenant is, and counts a batch at a time. `HeavyHitters`
bounds what it remembers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import trio

from pipeline.observe.heavy import Heavy, HeavyHitters, Share
from pipeline.records.formats.json import PLAIN
from pipeline.records.path import Path
from pipeline.records.record import Record
from pipeline.records.rows import Row, plain

TOP = 20
"""How many tenants, and keys, are told of."""


class Usage:
    """What the heaviest tenants and keys of this instance have had applied. No method is a checkpoint.

    Args:
        tenant: the path of a record's tenant.
        clock: seconds; never goes back.
    """

    def __init__(self, tenant: Path, clock: Callable[[], float] = trio.current_time) -> None:
        self.tenants = HeavyHitters()
        self.keys = HeavyHitters()
        self._tenant = tenant
        self._get = tenant.getter()
        self._flat = tenant.steps[0] if tenant.in_value and len(tenant.steps) == 1 else None
        self._clock = clock

    def top_tenants(self) -> list[Heavy]:
        """Return the `TOP` heaviest tenants of late."""
        return self.tenants.top(TOP, self._clock())

    def top_keys(self) -> list[Heavy]:
        """Return the `TOP` heaviest keys of late."""
        return self.keys.top(TOP, self._clock())

    def applied(self, records: Sequence[Record], seconds: float) -> None:
        """Count a batch that was applied in so many seconds."""
        each = seconds / len(records)
        now = self._clock()
        keys = [record.ordering for record in records]
        self.keys.add(
            {key: Share(n, 1, n * each) for key, n in _single(Counter(keys)).items()}, now
        )
        self.tenants.add(self._shares(self._tenants(records), keys, each), now)

    def _tenants(self, records: Sequence[Record]) -> Sequence[Any]:
        """The tenant of each record; whatever is not plain is none."""
        document = records[0].document
        if self._flat is not None and isinstance(document, Row):
            field = attrgetter(f"document.{type(document).attributes[self._flat]}")
            try:
                found = list(map(field, records))
            except AttributeError:  # one of them could not be decoded, or is a tombstone
                found = list(map(self._get, records))
        else:
            found = list(map(self._get, records))
        if PLAIN.issuperset(map(type, found)):
            return found
        values = map(plain, found)
        return [value if type(value) in PLAIN else None for value in values]

    @staticmethod
    def _shares(
        tenants: Sequence[Hashable], keys: Iterable[Hashable], each: float
    ) -> Mapping[Hashable, Share]:
        records = Counter(tenants)
        rows = Counter(tenant for tenant, _ in set(zip(tenants, keys, strict=True)))
        return {
            tenant: Share(number, rows[tenant], number * each)
            for tenant, number in records.items()
            if tenant is not None
        }


def keys_of(ordering: Hashable) -> tuple[Hashable, ...]:
    """Return the ordering keys of a record, from `Record.ordering`; none if it could not be decoded."""
    if type(ordering) is not tuple:
        return (ordering,)
    return tuple(value for place, value in ordering if place != "@key")


def _single(counted: Mapping[Hashable, int]) -> Mapping[Hashable, int]:
    """Count each key by itself where records have several; what could not be decoded has none."""
    if not any(type(key) is tuple for key in counted):
        return counted
    singles: Counter[Hashable] = Counter()
    for key, records in counted.items():
        if type(key) is tuple:
            singles.update(dict.fromkeys(keys_of(key), records))
        else:
            singles[key] += records
    return singles
