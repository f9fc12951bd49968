"""The ledger's folding in a real Postgres."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from pipeline.postgres import ledger
from pipeline.records import TopicPartition
from pipeline.store import AppliedOffsets, Claim
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real


def test_what_was_applied_after_the_commit_does_not_look_set_back(
    database: DatabaseFactory,
) -> None:
    """Folding joins the watermark's range with what was applied since; the watermark stays known."""
    claim = Claim("group", TopicPartition("topic", 0), uuid4())

    async def apply_and_fold() -> AppliedOffsets:
        connection = await asyncpg.connect(database())
        try:
            await ledger.migrate(connection)
            (epoch,), _ = await ledger.take_over(connection, claim, "owner", 1)
            lease = ledger.Lease(claim, 0, epoch)
            for offsets in (range(10), range(10, 15), range(20, 22)):
                guard = (*lease.parameters(), ledger.multirange(offsets))
                assert await connection.fetchval(ledger.MARK, *guard) == 1
            await ledger.fold(connection, [(claim, 10)])
            _, applied = await ledger.take_over(connection, claim, "next", 1)
            assert await connection.fetchval("select count(*) from pipeline.applied") == 1
            return applied
        finally:
            await connection.close()

    applied = asyncio.run(apply_and_fold())
    assert applied == AppliedOffsets(watermark=15, above=((20, 22),), folded=10)
