"""One attempt at the statements of one batch, within one transaction. On asyncio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

import asyncpg

from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.connections.errors import Verdict, judge
from pipeline.postgres.connections.limiter import Sample
from pipeline.postgres.ledger.keys import Known, Selection, find_others, is_race
from pipeline.postgres.ledger.lease import GUARD_PARAMETERS, KEY, Lease, holds
from pipeline.postgres.sink.columns import quote
from pipeline.postgres.sink.packing import packed
from pipeline.postgres.sink.sink import Sink, Write
from pipeline.postgres.sink.statements import Statements

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
    OTHER_COLUMNS = "other columns"
    """A column is not as the statement was made for it: nothing was written."""
    REPEATED = "repeated"
    """An idempotency key is another record's: nothing was written."""


async def has_columns(connection: Connection, statements: Statements) -> bool:
    return bool(await connection.fetchval(f"select {statements.same_columns}"))


class Attempt:
    """The statements of one batch.

    Args:
        guard: the ledger's parameters; None: statements go unguarded.
        selection: which keys are claimed; None, or without keys: none.
    """

    def __init__(
        self,
        sink: Sink,
        statements: Statements,
        guard: tuple[Any, ...] | None,
        writes: Sequence[Write],
        sample: Sample,
        lease: Lease,
        selection: Selection | None,
    ) -> None:
        self.others: Known = {}
        """After `Outcome.REPEATED`: the keys that are other records'."""
        self._sample = sample
        self._statements = statements
        self._guard = guard
        self._lease = lease
        self._selection = selection if selection is not None and selection.keys else None
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
                if is_race(error):
                    continue  # whoever won has committed: the key is known now
                race += 1
                if race > RACES or not self._on_key(error):
                    return await self._unless_columns_changed(connection, error)
            except asyncpg.PostgresError as error:
                self._sample.clean = False
                return await self._unless_columns_changed(connection, error)
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
        parameters = [*(self._guard or ()), *packed(write.arrays)]
        of_kind = self._statements.plain if self._guard is None else self._statements.guarded
        if self._selection is not None:
            of_kind = self._statements.claiming
            parameters[GUARD_PARAMETERS:GUARD_PARAMETERS] = self._selection.parameters()
        tag = await connection.execute(of_kind[write.kind], *parameters)
        if tag.rpartition(" ")[2] != "0":
            return Outcome.APPLIED
        if self._guard is not None and await self._noted(connection):
            return Outcome.APPLIED
        if not await has_columns(connection, self._statements):
            return Outcome.OTHER_COLUMNS
        if self._selection is not None:
            self.others = await find_others(connection, self._lease.claim, self._selection)
            # None, and the lease holds: such a key was there, and was just deleted for its age.
            if self.others or await holds(connection, self._lease):
                return Outcome.REPEATED
        return Outcome.APPLIED if self._guard is None else Outcome.FENCED

    async def _noted(self, connection: Connection) -> bool:
        assert self._guard is not None, "there is a ledger to ask"
        stream, topic_id, partition, *_, offsets = self._guard
        return bool(await connection.fetchval(_NOTED, stream, topic_id, partition, offsets))

    async def _unless_columns_changed(
        self, connection: Connection, error: asyncpg.PostgresError
    ) -> Outcome:
        """Postgres's verdict on a value is about the type that it was cast to.

        Raises:
            asyncpg.PostgresError: ``error``, if the columns are as they were.
        """
        if judge(error) in (Verdict.RETRY, Verdict.IN_DOUBT) or connection.is_closed():
            raise error
        if await has_columns(connection, self._statements):
            raise error
        return Outcome.OTHER_COLUMNS

    def _on_key(self, error: asyncpg.UniqueViolationError) -> bool:
        """Whether two rows of one primary key met; the detail says so in every language."""
        found = re.search(r"\((.*?)\)=\(", error.detail or "")
        bare = found[1].replace('"', "") if found else ""
        return bare == ", ".join(quote(column.name) for column in self._key).replace('"', "")
