"""pyrallel-consumer, asyncio engine, order per key: a worker that upserts one record."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson
from pyrallel_consumer.config import (  # type: ignore[import-not-found, unused-ignore]
    KafkaConfig,
)
from pyrallel_consumer.consumer import (  # type: ignore[import-not-found, unused-ignore]
    PyrallelConsumer,
)

from bench.subjects.peers.upsert import arguments

IN_FLIGHT = 16

STATEMENT = """\
insert into sessions as t (id, app_id, last_seen, session_count, tags)
values ($1, $2, $3::text::timestamptz, $4, $5::text::jsonb)
on conflict (id) do update set
    app_id = excluded.app_id, last_seen = excluded.last_seen,
    session_count = t.session_count + excluded.session_count, tags = excluded.tags"""


async def main() -> None:
    """Run until killed. A connection for each record in flight; no pool's reset between them."""
    options = arguments(__doc__ or "").parse_args()
    idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
    for _ in range(IN_FLIGHT):
        connection = await asyncpg.connect(options.dsn)
        idle.put_nowait(await connection.prepare(STATEMENT))

    async def upsert(item: Any) -> None:
        document = orjson.loads(item.payload)
        statement = await idle.get()
        try:
            await statement.fetch(
                document["id"], document["app_id"], document["last_seen"],
                document["session_count"], orjson.dumps(document["tags"]).decode(),
            )  # fmt: skip
        finally:
            idle.put_nowait(statement)

    config = KafkaConfig()
    config.BOOTSTRAP_SERVERS = [options.bootstrap]
    config.CONSUMER_GROUP = options.group
    config.dlq_enabled = False
    consumer = PyrallelConsumer(config=config, worker=upsert, topic=options.topic)
    await consumer.start()
    await consumer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
