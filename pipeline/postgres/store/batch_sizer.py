"""How many records a transaction should hold."""

from __future__ import annotations

from pipeline.contracts.store import Claim

CALLING_SECONDS = 0.05
"""How long a handler's calls in one transaction may take, one after another.

A slow handler so gets small batches: its records run in all slots at once, and no record waits long
for those that it shares a transaction with. At 20 times what a transaction costs by itself (2 to
3 ms), that cost is 5 %.
"""

SPREADING_SECONDS = 0.02
"""The same while slots are free: better to use them than to save transactions."""

SLOW_SECONDS = 0.001
"""From so many seconds a record on, a handler's calls gain by having more slots than connections."""

WHOLE_SECONDS = 0.5
"""How long a handler's transaction may take from beginning to end.

Under backlog this is mostly waiting for Postgres, which all connections share: to cut batches by the
same measure as the calls would make many small transactions of a load that only needs few large ones.
What it bounds is how long locks are held, and how long a drain waits.
"""

LONGEST_SECONDS = 5.0
"""The same where a transaction of one record takes long already, as the server or the way to it is slow.

There, twice what one record takes: smaller batches would be no quicker, only smaller.
"""

LINGER_SECONDS = 0.02
"""How long a batch of the declared sink may wait to grow while another is in flight."""


class BatchSizer:
    """The size of batches, by what the last transactions took.

    The declared sink is not bounded: the larger the batch, the cheaper the record. A handler is, by
    the time its calls take and by the time the transaction takes. The first is in proportion to the
    records; the second is not, so it bounds only what was seen to be too much, and batches grow to
    twice of what was seen to be well.
    """

    def __init__(self, largest: int, *, bounded: bool) -> None:
        self._largest = largest
        self._bounded = bounded
        self._proven = 1 if bounded else largest
        self._calling = 1e-9  # seconds a record
        self._alone = 0.0  # seconds that a transaction of one record takes, at most
        self.linger = 0.0 if bounded else LINGER_SECONDS
        """Seconds that a batch may wait to grow: a handler's records hardly gain by it."""

    def resize(self, largest: int) -> None:
        """Allow batches of another size from now on; a handler's grow up to it by and by."""
        self._largest = largest
        self._proven = min(self._proven, largest) if self._bounded else largest

    @property
    def limit(self) -> int:
        """How many records a transaction should hold while all slots are taken."""
        return self._within(CALLING_SECONDS)

    @property
    def spreading(self) -> int:
        """The same while some are free."""
        return self._within(SPREADING_SECONDS)

    @property
    def slow(self) -> bool:
        """Whether a handler's calls are worth more slots than there are connections."""
        return self._calling >= SLOW_SECONDS

    def _within(self, seconds: float) -> int:
        return max(1, min(self._proven, int(seconds / self._calling)))

    def called(self, records: int, seconds: float) -> None:
        """A handler's calls for so many records took so long."""
        self._calling = max(seconds / records, 1e-9)

    def observe(self, records: int, seconds: float) -> None:
        """A transaction of so many records took so long, from beginning to end."""
        if not self._bounded:
            return
        self._alone = seconds if records == 1 else min(self._alone, seconds)
        whole = min(max(WHOLE_SECONDS, 2 * self._alone), LONGEST_SECONDS)
        if seconds <= whole:
            self._proven = max(self._proven, min(2 * records, self._largest))
        else:
            self._proven = max(1, min(self._proven, int(records * whole / seconds)))


class BatchSizers:
    """The sizes of a shard's batches: of each partition, and of each lane, by its own transactions.

    What a hot key's records take says nothing of the others'. If one size were for all, a lane behind a slow
    handler would make the batches of every partition small.

    Args:
        largest, bounded: see `BatchSizer`.
    """

    def __init__(self, largest: int, *, bounded: bool) -> None:
        self._largest = largest
        self._bounded = bounded
        self._sizers: dict[Claim, BatchSizer] = {}
        self._slow: set[Claim] = set()

    def of(self, claim: Claim) -> BatchSizer:
        """Return the sizer of a partition or a lane; a new one if there is none."""
        if claim not in self._sizers:
            self._sizers[claim] = BatchSizer(self._largest, bounded=self._bounded)
        return self._sizers[claim]

    def forget(self, claim: Claim) -> None:
        """Drop what is known of a partition or a lane."""
        self._sizers.pop(claim, None)
        self._slow.discard(claim)

    def resize(self, largest: int) -> None:
        """See `BatchSizer.resize`."""
        self._largest = largest
        for sizer in self._sizers.values():
            sizer.resize(largest)

    def called(self, claim: Claim, records: int, seconds: float) -> None:
        """See `BatchSizer.called`."""
        sizer = self.of(claim)
        sizer.called(records, seconds)
        (self._slow.add if sizer.slow else self._slow.discard)(claim)

    @property
    def slow(self) -> bool:
        """Whether the handler's calls for any of them are worth more slots than there are connections."""
        return bool(self._slow)
