"""What writers ask of a store: the part of it that applies records."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pipeline.contracts.setback import Setback
from pipeline.records.record import Record


class Writing(Protocol):
    """The part of a `PartitionStore` that writers use; see there."""

    @property
    def writers(self) -> int: ...
    @property
    def waits_for(self) -> str: ...
    @property
    def batch_limit(self) -> int: ...
    @property
    def linger(self) -> float: ...

    def slot(self) -> AbstractAsyncContextManager[None]: ...

    async def apply(self, writer: int, records: Sequence[Record]) -> Setback | None: ...
