"""Applies records by the declared sink: one transaction, one crossing of the bridge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease, fenced
from pipeline.postgres.ledger.ledger import Ledger
from pipeline.postgres.sink.packing import packed
from pipeline.postgres.sink.sink import Sink, Write
from pipeline.postgres.sink.statements import Statements
from pipeline.records.record import Record


class SinkApplier:
    """Applies records by the declared sink."""

    def __init__(self, sink: Sink, shard: Shard, ledger: Ledger) -> None:
        self.shape = sink.shape
        self._shard = shard
        self._ledger = ledger
        self._sink = sink
        self._statements = Statements(sink)

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        """See `Transactions.write`.

        Raises:
            RowError: a record can't become a row.
        """
        writes = list(self._sink.writes(records))
        if not writes:  # tombstones that the sink ignores: only their offsets
            await self._ledger.mark(lease, records)
            return 0
        fence = self._ledger.guard(lease, records)
        if not await self._shard.transact(partial(self._apply, fence=fence, writes=writes)):
            raise fenced(lease)
        return sum(write.rows for write in writes)

    async def probe(self) -> bool:
        """See `Transactions.probe`. A checkpoint."""
        await self._shard.run(self._probe)
        return True

    async def _probe(self, connection: Connection) -> None:
        """Run each statement without its ledger over null arrays, which have no rows; roll back."""
        transaction = connection.transaction()
        await transaction.start()
        try:
            for statement in self._statements.plain.values():
                prepared = await connection.prepare(statement)
                await prepared.fetch(*[None] * len(prepared.get_parameters()))
        finally:
            await transaction.rollback()

    async def _apply(
        self, connection: Connection, fence: tuple[Any, ...] | None, writes: list[Write]
    ) -> bool:
        if len(writes) == 1:
            return await self._first(connection, fence, writes[0])
        async with connection.transaction():
            if not await self._first(connection, fence, writes[0]):
                return False
            for write in writes[1:]:
                await connection.execute(self._statements.plain[write.kind], *packed(write.arrays))
        return True

    async def _first(
        self, connection: Connection, fence: tuple[Any, ...] | None, write: Write
    ) -> bool:
        if fence is None:
            await connection.execute(self._statements.plain[write.kind], *packed(write.arrays))
            return True
        statement = self._statements.guarded[write.kind]
        return bool(await connection.fetchval(statement, *fence, *packed(write.arrays)))
