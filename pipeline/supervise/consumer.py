"""How a consumer stands, for the service manager: served, or a spare; and its lag and rate."""

from __future__ import annotations

from collections.abc import Callable, Collection

import trio

from pipeline.contracts.snapshot import PartitionSnapshot, Phase
from pipeline.observe.health import ProgressWatch, held_lines, paused_lines
from pipeline.observe.progress import lag_of
from pipeline.supervise.rate import Rate


class ConsumerStanding:
    """The `Standing` of ``pipeline run``.

    It has started when each of its partitions is served, those aside whose database is away while
    others are there; or when it is a spare: it has joined the group and got no partition within
    ``spare_seconds``. Others may have to give partitions up first, and may take as long for it.

    Args:
        health: what knows whether the group is joined, and whether partitions move.
        snapshots: the assigned partitions as they are now.
        applied: how many records were applied so far, in all.
        spare_seconds: how long others may take to hand partitions over.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        health: ProgressWatch,
        snapshots: Callable[[], Collection[PartitionSnapshot]],
        applied: Callable[[], int],
        *,
        spare_seconds: float,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.live = health.live
        self._health = health
        self._snapshots = snapshots
        self._spare_seconds = spare_seconds
        self._clock = clock
        self._empty_since: float | None = None
        self._rate = Rate(applied, clock)

    def starting(self) -> str | None:
        """Why it does not do its work yet, for people; None: it does. Not a checkpoint."""
        if reasons := self._health.ready():
            self._empty_since = None
            return _first(reasons)
        found = self._snapshots()
        if not found:
            return self._waits_for_partitions()
        self._empty_since = None
        away = sum(not each.answers for each in found)
        opening = sum(each.phase is Phase.OPENING and each.answers for each in found)
        if opening:
            return f"taking over {opening} of {len(found)} partitions"
        if away == len(found):
            return f"no database of the {away} partitions here answers"
        return None

    def _waits_for_partitions(self) -> str | None:
        now = self._clock()
        if self._empty_since is None:
            self._empty_since = now
        if now - self._empty_since >= self._spare_seconds:
            return None
        return "no partitions so far; others may be about to hand some over"

    def status(self) -> str:
        """What is wrong, if anything is; lag, partitions, rate. Not a checkpoint."""
        found = self._snapshots()
        parts = [*self.live()[:1], *self._health.ready()[:1]]
        if found:
            parts += [lag_of(found), f"{self._rate.since_last():,.0f} records/s"]
        else:
            parts.append("no partitions: spare")
        if away := sum(not each.answers for each in found):
            parts.append(f"{away} wait for their database")
        return "; ".join(parts + paused_lines(found) + held_lines(found))


def _first(reasons: list[str]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}"
