"""A hand-written loop: aiokafka, orjson, asyncpg, one ``unnest`` upsert per batch.

Offsets are committed once per second, after their records are committed to Postgres: at-least-once, in
order per partition; no retries.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.subjects.peers.lanes import Lanes
from bench.subjects.peers.upsert import arguments

BATCH = 4000


async def main() -> None:
    """Run until killed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--lanes", type=int, default=1, help="writes at once")
    options = parser.parse_args()
    lanes = await Lanes.open(options.dsn, options.lanes)
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    written: dict[TopicPartition, int] = {}
    committed = time.monotonic()
    while True:
        polled = await consumer.getmany(timeout_ms=200, max_records=BATCH)
        batches: dict[int, tuple[list[bytes], dict[TopicPartition, int]]] = {}
        for source, records in polled.items():
            values, ends = batches.setdefault(lanes.of(source.partition), ([], {}))
            values += [record.value for record in records]
            ends[source] = records[-1].offset + 1
        for lane, (values, ends) in batches.items():
            await lanes.write(lane, values, partial(written.update, ends))
        if written and time.monotonic() - committed > 1.0:
            await consumer.commit(written)
            committed = time.monotonic()


if __name__ == "__main__":
    asyncio.run(main())
