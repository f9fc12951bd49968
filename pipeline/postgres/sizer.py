"""How many records a transaction should hold."""

from __future__ import annotations

CALLING_SECONDS = 0.05
"""How long a handler's calls in one transaction may take, one after another.

A slow handler so gets small batches: its records run on all connections at once, and no record waits
long for those that it shares a transaction with. At 20 times what a transaction costs by itself (2 to
3 ms), that cost is 5 %.
"""

SPREADING_SECONDS = 0.005
"""The same while connections are free: better to use them than to save transactions."""

WHOLE_SECONDS = 0.5
"""How long a handler's transaction may take from beginning to end.

Under backlog this is mostly waiting for Postgres, which all connections share: to cut batches by the
same measure as the calls would make many small transactions of a load that only needs few large ones.
What it bounds is how long locks are held, and how long a drain waits.
"""


class BatchSizer:
    """The size of batches, by what the last transactions took.

    The declared sink is not bounded: the larger the batch, the cheaper the record. A handler is, by
    the time its calls take and by the time the transaction takes. Sizes grow step by step, for one
    quick transaction proves little, and shrink at once.
    """

    def __init__(self, largest: int, *, bounded: bool) -> None:
        self._largest = largest
        self._bounded = bounded
        self._calling = 0.0  # seconds a record
        self.limit = 1 if bounded else largest
        """How many records a transaction should hold while all connections are in use."""
        self.spreading = self.limit
        """The same while some are free."""

    def called(self, records: int, seconds: float) -> None:
        """A handler's calls for so many records took so long."""
        self._calling = seconds / records

    def observe(self, records: int, seconds: float) -> None:
        """A transaction of so many records took so long, from beginning to end."""
        if not self._bounded:
            return
        fitting = records * WHOLE_SECONDS / max(seconds, 1e-6)
        calling = max(self._calling, 1e-9)
        largest = min(fitting, CALLING_SECONDS / calling, self.limit * 2, self._largest)
        self.limit = max(1, int(largest))
        self.spreading = max(1, min(int(SPREADING_SECONDS / calling), self.limit))
