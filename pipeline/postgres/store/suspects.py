"""The records that failed alone, with an error that may be theirs, the schema's or the server's.

Whose fault it is shows in what becomes of others: if the statement fails over no rows too, it is the
schema's. Records that fail while others go through are at fault themselves. If none goes through,
it can't be known: a few are taken for guilty, and of more it is the schema's fault again.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from pipeline.postgres.connections.errors import may_pass, sqlstate_of
from pipeline.postgres.store.database import Transactions
from pipeline.postgres.store.parts import Held
from pipeline.postgres.store.recovery import Recovery, described

SUSPECTS = 20
"""So many records that failed alone, and none that went through: the rest is not tried one by one."""

LONE_SUSPECTS = 3
"""So many records in a row that failed, and none that went through: it is the schema's fault."""

PASSING_ATTEMPTS = 4
"""How often an internal error of the server is tried again before a record is suspected."""


class Suspects:
    """The suspect records of a batch.

    Args:
        database: is asked whether the statement works over no rows.
        recovery: knows what went through meanwhile, on the whole shard.
    """

    def __init__(self, database: Transactions, recovery: Recovery) -> None:
        self._database = database
        self._recovery = recovery
        self.proof: Exception | None = None
        """What the statement raised over no rows, if it was that which cleared the records."""
        self.begin()

    def begin(self) -> None:
        """Forget who was suspected: it is decided. What went through until now says nothing more."""
        self._held: list[Held] = []
        self._successes = self._recovery.successes

    def add(self, held: Held) -> None:
        """A record failed alone."""
        self._held.append(held)

    @property
    def enough(self) -> bool:
        """Whether so many failed that the rest of the batch need not be tried."""
        return len(self._held) >= SUSPECTS and not self._others_passed

    @property
    def _others_passed(self) -> bool:
        return self._recovery.successes > self._successes

    async def cleared(self, error: Exception, attempt: int) -> bool:
        """Whether no record is to be suspected of an error yet. A checkpoint.

        It may pass by itself, or the statement fails in the same way over no rows: then it is the
        schema's fault.
        """
        self.proof = None
        if may_pass(error) and attempt < PASSING_ATTEMPTS:
            return True
        try:
            await self._database.probe()
        except asyncpg.PostgresError as same:
            if sqlstate_of(same) != sqlstate_of(error):
                return False
            self.proof = same
            return True
        except (OSError, asyncpg.InterfaceError):
            return False  # what becomes of the next attempt, tells
        return False

    async def verdict(self) -> Sequence[Held]:
        """Return those that are at fault. None of them: the shard was stopped and is mended. A checkpoint.

        Raises:
            PipelineError: it is the schema's or the server's fault.
        """
        held = self._held
        if held and not self._others_passed:
            known = self._recovery.successes or await self._has_probe()
            if not known or self._recovery.condemned + len(held) >= LONE_SUSPECTS:
                doing = f"applying {described([each.record for each in held])}"
                await self._recovery.stopped(held[0].error, doing)
                return ()
            self._recovery.condemned += len(held)
        return held

    async def _has_probe(self) -> bool:
        try:
            return await self._database.probe()
        except Exception:  # only asked whether there is a probe: one that fails is one
            return True
