"""The ledger's folding in a real Postgres: what it does to the table itself.

What it must keep is among the conformance tests.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from pipeline.contracts.store import Claim
from pipeline.errors import UsageError
from pipeline.postgres.ledger.applied import fold
from pipeline.postgres.ledger.lease import MARK, SERVER, Lease
from pipeline.postgres.ledger.multirange import multirange
from pipeline.postgres.ledger.ownership import take_over
from pipeline.postgres.ledger.schema import MIGRATIONS, migrate
from pipeline.records.record import TopicPartition
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real


def test_the_rows_of_a_partition_become_one(database: DatabaseFactory) -> None:
    claim = Claim("group", TopicPartition("topic", 0), uuid4())

    async def apply_and_fold() -> list[int]:
        connection = await asyncpg.connect(database())
        try:
            await migrate(connection)
            (epoch,) = (await take_over(connection, claim, "owner", 1)).epochs
            lease = Lease(claim, 0, epoch)
            for offsets in (range(10), range(10, 15), range(20, 22)):
                guard = (*lease.parameters(), multirange(offsets))
                assert await connection.fetchval(MARK, *guard) == 1
            counts = [await connection.fetchval("select count(*) from pipeline.applied")]
            await fold(connection, [(lease, 10)])
            return [*counts, await connection.fetchval("select count(*) from pipeline.applied")]
        finally:
            await connection.close()

    assert asyncio.run(apply_and_fold()) == [3, 1]


def test_a_publication_for_all_tables_lets_the_ledger_fold(database: DatabaseFactory) -> None:
    """Without a replica identity Postgres refused the deletes, and that ended every instance."""
    claim = Claim("group", TopicPartition("topic", 0), uuid4())

    async def fold_published() -> int:
        connection = await asyncpg.connect(database())
        try:
            await migrate(connection)
            await connection.execute("create publication everything for all tables")
            (epoch,) = (await take_over(connection, claim, "owner", 1)).epochs
            lease = Lease(claim, 0, epoch)
            for offsets in (range(5), range(5, 9)):
                guard = (*lease.parameters(), multirange(offsets))
                assert await connection.fetchval(MARK, *guard) == 1
            await fold(connection, [(lease, 9)])
            count: int = await connection.fetchval("select count(*) from pipeline.applied")
            return count
        finally:
            await connection.close()

    assert asyncio.run(fold_published()) == 1


def test_tables_of_somebody_else_with_the_ledgers_names_are_told(database: DatabaseFactory) -> None:
    """It ended with "column stream does not exist"."""

    async def make() -> None:
        connection = await asyncpg.connect(database())
        try:
            await connection.execute(
                "create schema pipeline; create table pipeline.applied (id int)"
            )
            with pytest.raises(UsageError, match=r"pipeline\.applied is not the ledger's"):
                await migrate(connection)
        finally:
            await connection.close()

    asyncio.run(make())


def test_a_ledger_of_version_1_with_data_is_upgraded_in_place(database: DatabaseFactory) -> None:
    """An instance of the version before goes on beside it; its leases are fenced as ever."""
    claim = Claim("group", TopicPartition("topic", 0), uuid4())
    old_fence = MARK.replace(f"and server = {SERVER} ", "")

    async def upgrade() -> tuple[bool, bool, int | None]:
        connection = await asyncpg.connect(database())
        try:
            await connection.execute(MIGRATIONS[1])
            await connection.execute(
                "insert into pipeline.ownership values ($1, $2, 0, 0, 7, 'old')",
                claim.stream, claim.topic_id,
            )  # fmt: skip
            old = Lease(claim, 0, 7)
            written = (*old.parameters(), multirange(range(5)))
            assert await connection.fetchval(old_fence, *written) == 1
            await migrate(connection)
            beside = bool(await connection.fetchval(old_fence, *old.parameters(), multirange([5])))
            taken = await take_over(connection, claim, "new", 1)
            (epoch,), applied = taken.epochs, taken.applied
            assert epoch > 7
            fenced = not await connection.fetchval(old_fence, *old.parameters(), multirange([6]))
            return beside, fenced, applied.watermark
        finally:
            await connection.close()

    assert asyncio.run(upgrade()) == (True, True, 6)
