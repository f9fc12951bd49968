"""The ledger's folding in a real Postgres: what it does to the table itself.

What it must keep is among the conformance tests.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from pipeline.contracts.store import Claim
from pipeline.postgres.ledger.lease import MARK, Lease
from pipeline.postgres.ledger.ledger import fold, take_over
from pipeline.postgres.ledger.multirange import multirange
from pipeline.postgres.ledger.schema import migrate
from pipeline.records.record import TopicPartition
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real


def test_the_rows_of_a_partition_become_one(database: DatabaseFactory) -> None:
    claim = Claim("group", TopicPartition("topic", 0), uuid4())

    async def apply_and_fold() -> list[int]:
        connection = await asyncpg.connect(database())
        try:
            await migrate(connection)
            (epoch,), _ = await take_over(connection, claim, "owner", 1)
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
