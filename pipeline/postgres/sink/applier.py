"""Applies records by the declared sink: one transaction, one crossing of the bridge."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import Any

import asyncpg

from pipeline.config.model import SinkConfig
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.errors import RowError, Verdict, judge
from pipeline.postgres.connections.limiter import Sample
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import KEY, Lease, fenced
from pipeline.postgres.ledger.ledger import Ledger
from pipeline.postgres.sink.catalog import Table, read_table
from pipeline.postgres.sink.columns import quote
from pipeline.postgres.sink.packing import packed
from pipeline.postgres.sink.sink import Sink, Write
from pipeline.postgres.sink.statements import Statements
from pipeline.postgres.sink.validate import mistakes_of
from pipeline.records.record import Record

log = logging.getLogger(__name__)

RACES = 3
"""How often a statement is tried again if another program inserts the same key at the same moment."""

_NOTED = (
    f"select exists (select from pipeline.applied where {KEY} "
    "and offsets @> $4::text::int8multirange)"
)
"""Whether a transaction noted its offsets: they are in one row, also after a fold."""


class Outcome(Enum):
    """What became of a statement that raised nothing."""

    APPLIED = "applied"
    FENCED = "fenced"
    OTHER_TYPES = "other types"
    """A column's type is not the one that the statement was made for: nothing was written."""


class SinkApplier:
    """Applies records by the declared sink.

    The shape is that of the first table that was read; a table whose types have changed since is read
    by the same fields.
    """

    def __init__(self, config: SinkConfig, table: Table, shard: Shard, ledger: Ledger) -> None:
        self._config = config
        self._shard = shard
        self._ledger = ledger
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
        while True:
            sink, statements = self._sink, self._statements
            refused: RowError | None = None
            writes: list[Write] = []
            try:
                writes = list(sink.writes(records))
            except RowError as error:
                refused = error
            if refused is not None:
                if await self._shard.run(partial(_has_types, statements=statements)):
                    raise refused
                await self._read_table(statements)
                continue
            if not writes:  # tombstones that the sink ignores: only their offsets
                await self._ledger.mark(lease, records)
                return 0
            rows = sum(write.rows for write in writes)
            sample = Sample(rows)
            guard = self._ledger.guard(lease, records)
            attempt = _Attempt(sink, statements, guard, writes, sample)
            outcome = await self._shard.transact(attempt.run, sample)
            if outcome is Outcome.APPLIED:
                return rows
            if outcome is Outcome.FENCED:
                raise fenced(lease)
            await self._read_table(statements)

    async def probe(self) -> bool:
        """See `Transactions.probe`. A checkpoint.

        Statements for types that the table has no more are made anew first: these could fail for ever.
        """
        statements = self._statements
        if not await self._shard.run(partial(_has_types, statements=statements)):
            await self._read_table(statements)
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
            await transaction.rollback()  # noqa: ASYNC102 (on asyncio; the lease bounds it)

    async def _read_table(self, former: Statements) -> None:
        """Make the statements anew, unless another batch of this shard has done so meanwhile.

        Raises:
            RowError: the table does not fit the sink any more.
        """
        if self._statements is not former:
            return
        assert self._config.table is not None, "the sink is a table"
        table = await self._shard.run(partial(read_table, name=self._config.table))
        if table is None or (mistakes := mistakes_of(self._config, table)):
            raise asyncpg.UndefinedTableError(
                "; ".join(mistakes if table is not None else [f"{self._config.table} is gone"])
            )
        log.info("table %s: the types of its columns have changed, its statements too", table.name)
        self._use(table)


async def _has_types(connection: Connection, statements: Statements) -> bool:
    return bool(await connection.fetchval(f"select {statements.same_types}"))


class _Attempt:
    """The statements of one batch, and the ledger's parameters; None: statements go unguarded."""

    def __init__(
        self,
        sink: Sink,
        statements: Statements,
        guard: tuple[Any, ...] | None,
        writes: Sequence[Write],
        sample: Sample,
    ) -> None:
        self._sample = sample
        self._statements = statements
        self._guard = guard
        self._writes = writes
        self._key = sink.primary_key

    async def run(self, connection: Connection) -> Outcome:
        """Apply them in one transaction. On asyncio."""
        race = 0
        while True:  # noqa: ASYNC913 (on asyncio; each turn waits for Postgres)
            try:
                outcome = await self._apply(connection)
            except asyncpg.UniqueViolationError as error:
                self._sample.clean = False
                race += 1
                if race > RACES or not self._on_key(error):
                    return await self._unless_types_changed(connection, error)
            except asyncpg.PostgresError as error:
                self._sample.clean = False
                return await self._unless_types_changed(connection, error)
            else:
                self._sample.clean &= outcome is Outcome.APPLIED
                return outcome

    async def _apply(self, connection: Connection) -> Outcome:
        first, *rest = self._writes
        if not rest:
            return await self._first(connection, first)
        async with connection.transaction():
            outcome = await self._first(connection, first)
            if outcome is Outcome.APPLIED:
                for write in rest:
                    statement = self._statements.plain[write.kind]
                    await connection.execute(statement, *packed(write.arrays))
        return outcome

    async def _first(self, connection: Connection, write: Write) -> Outcome:
        of_kind = self._statements.plain if self._guard is None else self._statements.guarded
        parameters = (*(self._guard or ()), *packed(write.arrays))
        tag = await connection.execute(of_kind[write.kind], *parameters)
        if tag.rpartition(" ")[2] != "0":
            return Outcome.APPLIED
        if self._guard is not None and await self._noted(connection):
            return Outcome.APPLIED
        if not await _has_types(connection, self._statements):
            return Outcome.OTHER_TYPES
        return Outcome.APPLIED if self._guard is None else Outcome.FENCED

    async def _noted(self, connection: Connection) -> bool:
        assert self._guard is not None, "there is a ledger to ask"
        stream, topic_id, partition, *_, offsets = self._guard
        return bool(await connection.fetchval(_NOTED, stream, topic_id, partition, offsets))

    async def _unless_types_changed(
        self, connection: Connection, error: asyncpg.PostgresError
    ) -> Outcome:
        """Postgres's verdict on a value is about the type that it was cast to.

        Raises:
            asyncpg.PostgresError: ``error``, if the types are as they were.
        """
        if judge(error) in (Verdict.RETRY, Verdict.IN_DOUBT) or connection.is_closed():
            raise error
        if await _has_types(connection, self._statements):
            raise error
        return Outcome.OTHER_TYPES

    def _on_key(self, error: asyncpg.UniqueViolationError) -> bool:
        """Whether two rows of one primary key met; the detail says so in every language."""
        found = re.search(r"\((.*?)\)=\(", error.detail or "")
        bare = found[1].replace('"', "") if found else ""
        return bare == ", ".join(quote(column.name) for column in self._key).replace('"', "")
