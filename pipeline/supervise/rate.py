"""How fast a number grows."""

from __future__ import annotations

from collections.abc import Callable


class Rate:
    """How much a number grows per second.

    Args:
        count: the number.
        clock: seconds that only grow.
    """

    def __init__(self, count: Callable[[], int], clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._before = count()
        self._at = clock()

    def since_last(self) -> float:
        """Return by how much per second, since the last call. Not a checkpoint."""
        count, now = self._count(), self._clock()
        grown, seconds = count - self._before, now - self._at
        self._before, self._at = count, now
        return grown / seconds if seconds > 0 else 0.0
