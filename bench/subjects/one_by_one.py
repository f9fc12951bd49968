"""Workers that take records from one queue, and write each in a transaction of its own.

What one gets who makes a consumer faster by more workers: as many transactions at once as there are
workers, and no order. Offsets are committed once per second, whatever has been written.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer

from bench.subjects.handling import UPSERT, row
from bench.subjects.peers.upsert import arguments

AHEAD = 1000
"""Records in the queue at most."""


async def work(queue: asyncio.Queue[bytes], dsn: str) -> None:
    """Write one record after another."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    statement = await connection.prepare(UPSERT)
    while True:
        await statement.fetch(*row(orjson.loads(await queue.get())))


async def run(options: Any) -> None:
    """Read, and hand each record to whoever is free."""
    consumer = AIOKafkaConsumer(
        options.topic, bootstrap_servers=options.bootstrap, group_id=options.group,
        auto_offset_reset="earliest", auto_commit_interval_ms=1000,
    )  # fmt: skip
    queue: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
    await consumer.start()
    async with asyncio.TaskGroup() as workers:
        for _ in range(options.workers):
            workers.create_task(work(queue, options.dsn))
        while True:
            record = await consumer.getone()
            await queue.put(record.value)


def main() -> None:
    """Run until it is killed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--workers", type=int, required=True)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
