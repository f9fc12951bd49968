"""How much a partition may hold, and take at once: in records, and in bytes."""

from __future__ import annotations

import attrs


@attrs.define
class BufferBudget:
    """The limits that the partitions of an instance share.

    A partition has a limit of its own, and all of them have one together: without the second, memory
    would grow with the partitions that an instance is given. A partition may hold as much as is free
    for all: alone it has half of the whole, so a hot one is not held to the share of many idle ones,
    and n that are equally busy come to rest at the n+1st part each (Choudhury and Hahne, "Dynamic
    queue length thresholds for shared-memory packet switches", 1998). Both limits are in bytes too,
    or else memory would grow with the records.

    Attributes:
        buffered: records that a partition may hold.
        buffered_total: records that all of them may hold together.
        buffered_bytes: bytes that all of them may hold together.
        batch: records in one transaction.
        batch_bytes: bytes in one transaction; but one record always may.
        records: what all of them hold just now.
        size: the same in bytes.
    """

    buffered: int
    buffered_total: int
    buffered_bytes: int
    batch: int
    batch_bytes: int
    records: int = 0
    size: float = 0.0

    LEAST = 500
    """Records that a partition may hold however many there are: less makes small transactions."""

    LEAST_BYTES = 64 * 1024

    def at_once(self, records: int, record_bytes: float) -> int:
        """As many records of this size as a transaction may hold, and no more than ``records``."""
        return max(1, min(records, self.batch, int(self.batch_bytes / max(1.0, record_bytes))))


@attrs.define(eq=False)
class Share:
    """What one partition holds of what all may."""

    _budget: BufferBudget
    _records: int = 0
    _size: float = 0.0

    def hold(self, records: int, size: float) -> None:
        """The partition holds so many records now, of so many bytes together."""
        self._budget.records += records - self._records
        self._budget.size += size - self._size
        self._records, self._size = records, size

    @property
    def fullness(self) -> float:
        """How full the partition is; 1 or more: it must not get more."""
        limits = self._budget
        free = limits.buffered_total - limits.records
        free_bytes = limits.buffered_bytes - limits.size
        return max(
            self._records / min(limits.buffered, max(limits.LEAST, free)),
            self._size / max(min(limits.LEAST_BYTES, limits.buffered_bytes), free_bytes),
        )
