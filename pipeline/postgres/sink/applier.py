"""Applies records by the declared sink: one transaction, one crossing of the bridge."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import asyncpg

from pipeline.config.model import SinkConfig
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.errors import RowError
from pipeline.postgres.connections.limiter import Sample
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.keys import IdempotencyKeys, Known, Selection, find_others, note
from pipeline.postgres.ledger.lease import Lease, fenced
from pipeline.postgres.ledger.ledger import Ledger
from pipeline.postgres.sink.attempt import Attempt, Outcome, has_columns
from pipeline.postgres.sink.catalog import Table, read_table
from pipeline.postgres.sink.sink import Sink, Write
from pipeline.postgres.sink.statements import Statements
from pipeline.postgres.sink.validate import mistakes_of
from pipeline.records.record import Record

log = logging.getLogger(__name__)


class SinkApplier:
    """Applies records by the declared sink.

    The shape is that of the first table that was read; a table that has changed since is read
    by the same fields.

    Args:
        config: what the sink is.
        table: its table as it is now.
        shard: the database.
        ledger: notes the offsets.
        keys: applies each idempotency key once; None: records' keys are not looked at.
    """

    def __init__(
        self,
        config: SinkConfig,
        table: Table,
        shard: Shard,
        ledger: Ledger,
        keys: IdempotencyKeys | None = None,
    ) -> None:
        self._config = config
        self._shard = shard
        self._ledger = ledger
        self._keys = keys
        self._use(table)
        self.shape = self._sink.shape

    def _use(self, table: Table) -> None:
        self._sink = Sink(self._config, table)
        self._statements = Statements(self._sink)

    async def write(self, lease: Lease, records: Sequence[Record]) -> int:
        """See `Transactions.write`.

        Raises:
            RowError: a record can't become a row.
        """
        if self._keys is None:
            rows = await self._write(lease, records, None)
            assert isinstance(rows, int), "no key is asked for"
            return rows
        known: Known = {}
        while True:
            selection = self._keys.select(lease.claim, records, known)
            rows = await self._write(lease, records, selection)
            if isinstance(rows, int):
                self._keys.applied(lease.claim, selection)
                return rows
            known = {**known, **rows}

    async def _write(
        self, lease: Lease, records: Sequence[Record], selection: Selection | None
    ) -> int | Known:
        """Apply what is selected of records (None: all), and note them all.

        Return how many rows were sent; or, if nothing was written, which keys are other records'.
        """
        while True:
            sink, statements = self._sink, self._statements
            refused: RowError | None = None
            writes: list[Write] = []
            fresh = records if selection is None else selection.fresh
            try:
                writes = list(sink.writes(fresh)) if fresh else []
            except RowError as error:
                refused = error
            if refused is not None:
                if await self._shard.run(partial(has_columns, statements=statements)):
                    raise refused
                await self._read_table(statements)
                continue
            if not writes:  # tombstones that the sink ignores, or repeated records: only offsets
                return await self._mark(lease, records, selection)
            rows = sum(write.rows for write in writes)
            sample = Sample(rows)
            guard = self._ledger.guard(lease, records)
            attempt = Attempt(sink, statements, guard, writes, sample, lease, selection)
            outcome = await self._attempted(attempt, sample, sink)
            if outcome is Outcome.APPLIED:
                return rows
            if outcome is Outcome.REPEATED:
                return attempt.others
            if outcome is Outcome.FENCED:
                raise fenced(lease)
            await self._read_table(statements)

    async def _attempted(self, attempt: Attempt, sample: Sample, sink: Sink) -> Outcome:
        """Attempt a batch. If a column that the sink does not write must be filled, ask whether it came
        since the sink was made: then no record is at fault.
        """
        try:
            return await self._shard.transact(attempt.run, sample)
        except asyncpg.NotNullViolationError as error:
            if error.column_name in {column.name for column in sink.columns}:
                raise
            unfilled = error
        await self._table()
        raise unfilled

    async def _mark(
        self, lease: Lease, records: Sequence[Record], selection: Selection | None
    ) -> int | Known:
        """Note records that write no row, and claim the keys of those that are selected."""
        if selection is None or not selection.keys:
            await self._ledger.mark(lease, records)
            return 0
        work = partial(note, lease=lease, records=records, selection=selection)
        if await self._shard.run(work):
            return 0
        return await self._shard.run(partial(find_others, claim=lease.claim, selection=selection))

    async def probe(self) -> bool:
        """See `Transactions.probe`. A checkpoint.

        Statements for columns that the table has no more are made anew first: these could fail for ever.
        A table that does not fit the sink any more fails here, also where no statement does.
        """
        statements = self._statements
        if not await self._shard.run(partial(has_columns, statements=statements)):
            await self._read_table(statements)
        await self._shard.run(self._probe)
        await self._table()
        return True

    async def _probe(self, connection: Connection) -> None:
        """Run each statement without its ledger over null arrays, which have no rows; roll back."""
        transaction = connection.transaction()
        await transaction.start()
        try:
            for statement in self._probed():
                prepared = await connection.prepare(statement)
                await prepared.fetch(*[None] * len(prepared.get_parameters()))
        finally:
            await transaction.rollback()  # noqa: ASYNC102 (on asyncio; the lease bounds it)

    def _probed(self) -> list[str]:
        """The statements over null arrays; without a lease, those that claim keys write nothing."""
        claiming = [] if self._keys is None else self._statements.claiming.values()
        return [*self._statements.plain.values(), *claiming]

    async def _read_table(self, former: Statements) -> None:
        """Make the statements anew, unless another batch of this shard has done so meanwhile.

        Raises:
            asyncpg.UndefinedTableError: the table does not fit the sink any more.
        """
        if self._statements is not former:
            return
        table = await self._table()
        log.info("table %s: its columns have changed, and the statements with them", table.name)
        self._use(table)

    async def _table(self) -> Table:
        """Read the table.

        Raises:
            asyncpg.UndefinedTableError: it does not fit the sink (any more).
        """
        assert self._config.table is not None, "the sink is a table"
        table = await self._shard.run(partial(read_table, name=self._config.table))
        mistakes = mistakes_of(self._config, table)
        if table is None or mistakes:
            raise asyncpg.UndefinedTableError("; ".join(mistakes))
        return table
