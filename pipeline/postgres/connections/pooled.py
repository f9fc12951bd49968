"""A connection through a pooler that gives each transaction another of the server's sessions.

So nothing that is kept in a session may be relied on: not its settings, not its prepared statements. Each
transaction begins with the settings that it needs, sent together with its ``begin``: one round trip. A
statement outside a transaction becomes a transaction. Statements are not named (asyncpg's cache is off), so
each is parsed anew, which is one round trip more a statement; to keep what the parsing told of its types
would be wrong as soon as a column's type changes, and nothing would tell.

What takes several transactions and relies on one session (listening, copying, session locks, temporary
tables that outlive a commit) is not to be done on such a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

if TYPE_CHECKING:
    _Base: TypeAlias = asyncpg.Connection[Any]
else:
    _Base = asyncpg.Connection


class PooledConnection(_Base):
    """asyncpg's connection, each of whose transactions begins with `at_begin`. On asyncio.

    It must be made with ``statement_cache_size=0``.
    """

    __slots__ = ("at_begin",)

    at_begin: str
    """SQL that pins the settings of a transaction: see `Session.at_begin`."""

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """See asyncpg. The ``begin`` of its transactions comes this way too."""
        if self.is_in_transaction():
            return await super().execute(query, *args, **options)
        if query.startswith("BEGIN"):
            return await super().execute(f"{query.rstrip(';')}; {self.at_begin}", **options)
        async with self.transaction():
            return await super().execute(query, *args, **options)

    async def executemany(
        self, command: str, args: Iterable[Sequence[Any]], **options: Any
    ) -> None:
        """See asyncpg."""
        if self.is_in_transaction():
            await super().executemany(command, args, **options)
            return
        async with self.transaction():
            await super().executemany(command, args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """See asyncpg."""
        if self.is_in_transaction():
            return await super().fetch(query, *args, **options)
        async with self.transaction():
            return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        if self.is_in_transaction():
            return await super().fetchrow(query, *args, **options)
        async with self.transaction():
            return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        if self.is_in_transaction():
            return await super().fetchval(query, *args, **options)
        async with self.transaction():
            return await super().fetchval(query, *args, **options)
