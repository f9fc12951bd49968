"""A hand-written loop: confluent-kafka (librdkafka), orjson, asyncpg, one ``unnest`` upsert per batch.

Offsets are stored once their records are committed to Postgres, and librdkafka commits what is stored
every second, as its documents advise for at-least-once. Order by partition; no retries.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from confluent_kafka import (  # type: ignore[import-not-found, unused-ignore]
    Consumer,
    KafkaException,
    TopicPartition,
)

from bench.subjects.peers.lanes import Lanes
from bench.subjects.peers.upsert import arguments

BATCH = 4000


async def main() -> None:
    """Run until killed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--lanes", type=int, default=1, help="writes at once")
    options = parser.parse_args()
    lanes = await Lanes.open(options.dsn, options.lanes)
    consumer = Consumer({
        "bootstrap.servers": options.bootstrap,
        "group.id": options.group,
        "auto.offset.reset": "earliest",
        "enable.auto.offset.store": False,
        "auto.commit.interval.ms": 1000,
        "partition.assignment.strategy": "cooperative-sticky",
        "fetch.message.max.bytes": 4 * 1024 * 1024,
    })  # fmt: skip
    consumer.subscribe([options.topic])
    loop = asyncio.get_running_loop()
    consume = partial(consumer.consume, BATCH, 0.2)
    with ThreadPoolExecutor(1) as thread:
        while True:
            batches = by_lane(await loop.run_in_executor(thread, consume), lanes)
            for lane, (values, ends) in batches.items():
                offsets = [TopicPartition(options.topic, p, end) for p, end in ends.items()]
                await lanes.write(lane, values, partial(consumer.store_offsets, offsets=offsets))


def by_lane(messages: list[Any], lanes: Lanes) -> dict[int, tuple[list[bytes], dict[int, int]]]:
    """Sort messages by lane: values in order, and the next offset of each partition."""
    batches: dict[int, tuple[list[bytes], dict[int, int]]] = defaultdict(lambda: ([], {}))
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
        partition = message.partition()
        values, ends = batches[lanes.of(partition)]
        values.append(message.value())
        ends[partition] = message.offset() + 1
    return batches


if __name__ == "__main__":
    asyncio.run(main())
