"""Where a lane's records come in: a tap that it reads through by itself, and what it has read."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from pipeline.records.record import RawRecord, TopicPartition


class Valve:
    """A lane's tap: open, or shut while enough is held."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._open.set()

    def pause(self, source: TopicPartition) -> None:
        """See `Tap`."""
        del source
        if self._open.is_set():
            self._open = trio.Event()

    def resume(self, source: TopicPartition) -> None:
        """See `Tap`."""
        del source
        self._open.set()

    async def opened(self) -> None:
        """Wait until it is open; a checkpoint only where it is shut."""
        while not self._open.is_set():
            await self._open.wait()


@attrs.frozen
class Cut:
    """Records that were read, as a `RawBatch`: what lies beyond the main way is left out."""

    decoded: Sequence[RawRecord]

    def __len__(self) -> int:
        return len(self.decoded)

    @property
    def size(self) -> int:
        """See `RawBatch.size`."""
        return sum(len(record.value or b"") for record in self.decoded)

    def records(self) -> Sequence[RawRecord]:
        """See `RawBatch.records`."""
        return self.decoded
