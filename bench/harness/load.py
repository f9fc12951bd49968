"""The load that the benches share: keyed JSON records of about 200 bytes, made from a seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

TABLE = """\
create table sessions (
    id bigint primary key, app_id text, last_seen timestamptz, session_count bigint, tags jsonb
)"""

SINK = """\
[sink]
table = "public.sessions"
mode = "upsert"
primary_key = ["id"]

[sink.columns]
id = "id"
app_id = "app_id"
last_seen = { from = "last_seen", merge = "last" }
session_count = { from = "session_count", merge = "add" }
tags = { from = "tags", merge = "last" }
"""

PAD = b',"pad":""}'


def records(count: int, keys: int, seed: int, size: int = 200) -> Iterator[tuple[bytes, bytes]]:
    """Message keys and values: ``keys`` distinct ids, values of ``size`` bytes.

    Without padding a value has about 100 bytes, so a smaller ``size`` gives that.
    """
    choose = random.Random(seed)
    for number in range(count):
        key = choose.randrange(keys)
        document = {
            "id": key,
            "app_id": f"app-{key % 64}",
            "last_seen": f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z",
            "session_count": 1,
            "tags": {"n": number},
        }
        value = orjson.dumps(document)
        room = size - len(value) - len(PAD) + 1  # the brace is there already
        if room >= 0:
            value = value[:-1] + PAD[:-2] + b"x" * room + PAD[-2:]
        yield str(key).encode(), value


def mean_size(seed: int, size: int) -> float:
    """Bytes that a value of a nominal size really has, on average."""
    values = [len(value) for _, value in records(1000, 100_000, seed, size)]
    return sum(values) / len(values)


def fill(bootstrap: str, topic: str, source: Iterator[tuple[bytes, bytes]]) -> None:
    """Produce everything, spread by Kafka's default partitioner on the message key.

    By aiokafka's compiled batches, a partition's records in order: 60,000 records/s where
    kafka-python's producer makes 12,000. Not inside a running asyncio loop.
    """
    asyncio.run(_fill(bootstrap, topic, source))


async def _fill(bootstrap: str, topic: str, source: Iterator[tuple[bytes, bytes]]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=256 * 1024
    )
    await producer.start()
    try:
        partitions = sorted(await producer.partitions_for(topic))
        batches = {partition: producer.create_batch() for partition in partitions}
        places: dict[bytes, int] = {}
        now = int(time.time() * 1000)
        for key, value in source:
            partition = places.get(key)
            if partition is None:
                partition = places[key] = (murmur2(key) & 0x7FFFFFFF) % len(partitions)
            if batches[partition].append(key=key, value=value, timestamp=now) is None:
                await _sent(producer, batches[partition], topic, partition)
                now = int(time.time() * 1000)
                batches[partition] = producer.create_batch()
                batches[partition].append(key=key, value=value, timestamp=now)
        for partition, batch in batches.items():
            await _sent(producer, batch, topic, partition)
    finally:
        await producer.stop()


async def _sent(producer: Any, batch: Any, topic: str, partition: int) -> None:
    if batch.record_count():
        acknowledged = await producer.send_batch(batch, topic, partition=partition)
        await acknowledged


def expected(source: Iterator[tuple[bytes, bytes]]) -> dict[int, tuple[Any, ...]]:
    """The rows that must be there in the end: id → (session_count, number of the last record)."""
    rows: dict[int, tuple[Any, ...]] = {}
    for _, value in source:
        document = orjson.loads(value)
        count, _ = rows.get(document["id"], (0, 0))
        rows[document["id"]] = (count + document["session_count"], document["tags"]["n"])
    return rows
