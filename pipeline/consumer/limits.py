"""How much a partition may hold, and take at once: in records, and in bytes."""

from __future__ import annotations

import attrs


@attrs.define
class Limits:
    """The limits that the partitions of an instance share.

    A partition has a limit of its own, and its share of the instance's: without the second, memory
    would grow with the partitions that an instance is given. And both are counted in bytes too, or
    else it would grow with the records.

    Attributes:
        buffered: records that a partition may hold.
        buffered_total: records that all of them may hold together.
        buffered_bytes: bytes that all of them may hold together.
        batch: records in one transaction.
        batch_bytes: bytes in one transaction; but one record always may.
        partitions: how many share them just now.
    """

    buffered: int
    buffered_total: int
    buffered_bytes: int
    batch: int
    batch_bytes: int
    partitions: int = 1

    LEAST = 500
    """Records that a partition may hold however many there are: less makes small transactions."""

    def fullness(self, records: int, size: float) -> float:
        """How full a partition is that holds so many records of so many bytes; 1 or more: full."""
        partitions = max(1, self.partitions)
        share = max(self.LEAST, self.buffered_total // partitions)
        return max(
            records / min(self.buffered, share), size / max(1, self.buffered_bytes // partitions)
        )

    def at_once(self, records: int, record_bytes: float) -> int:
        """As many records of this size as a transaction may hold, and no more than ``records``."""
        return max(1, min(records, self.batch, int(self.batch_bytes / max(1.0, record_bytes))))
