"""The heaviest of very many tenants or keys, in bounded memory.

What is counted a batch at a time would take a counter for each tenant that ever was. Nobody asks for
most of them. So this keeps the few hundred heaviest, after *space-saving* (Metwally, Agrawal and El
Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005), in the form that
takes whole batches: counts are added up until there are too many, then all but the heaviest are let
go. The largest count that was let go is the *floor*. Whoever is not here has at most as much as that,
so whoever comes in begins with it.

What ranks is recent weight: it halves every minute. Totals are exact from when somebody came in, and
start anew if they were let go in between.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from heapq import nlargest
from operator import attrgetter

import attrs

KEPT = 256
"""How many are kept when the others are let go."""

CROWD = 4 * KEPT
"""How many there may be before others are let go."""

HALF_LIFE = 60.0
"""Seconds in which recent weight halves."""


@attrs.define(eq=False)
class Heavy:
    """What is known of one tenant, or one key.

    Attributes:
        name: whose it is.
        recent: records applied lately, an upper bound: each counts half after a minute.
        records: records applied since it came in.
        rows: changes among them, as records of one key in one batch count once.
        seconds: its share of the time that its batches took in Postgres.
    """

    name: Hashable
    recent: float
    records: int = 0
    rows: int = 0
    seconds: float = 0.0


@attrs.frozen
class Share:
    """What one of them had in a batch: records, rows, and seconds."""

    records: int
    rows: int
    seconds: float


class HeavyHitters:
    """The heaviest of all that were added. No method is a checkpoint."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Heavy] = {}
        self._floor = 0.0
        self._aged = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def add(self, shares: Mapping[Hashable, Share], now: float) -> None:
        """Count a batch; ``now`` in seconds, on a clock that never goes back."""
        self._age(now)
        known, floor = self._known, self._floor
        for name, share in shares.items():
            heavy = known.get(name)
            if heavy is None:
                heavy = known[name] = Heavy(name, floor)
            heavy.recent += share.records
            heavy.records += share.records
            heavy.rows += share.rows
            heavy.seconds += share.seconds
        if len(known) > CROWD:
            self._let_go()

    def top(self, number: int, now: float) -> list[Heavy]:
        """Return the heaviest of late, the heaviest first."""
        self._age(now)
        return nlargest(number, self._known.values(), key=_recent)

    def _let_go(self) -> None:
        kept = nlargest(KEPT + 1, self._known.values(), key=_recent)
        self._floor = max(self._floor, kept.pop().recent)
        self._known = {heavy.name: heavy for heavy in kept}

    def _age(self, now: float) -> None:
        """Let recent weight fall by what has passed; not for less than a second."""
        if now - self._aged < 1.0:
            return
        factor = 0.5 ** ((now - self._aged) / HALF_LIFE)
        self._aged = now
        self._floor *= factor
        for heavy in self._known.values():
            heavy.recent *= factor


_recent = attrgetter("recent")
