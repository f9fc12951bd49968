"""The load that the benches share: keyed JSON records of about 200 bytes, made from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson
from kafka import KafkaProducer

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


def records(count: int, keys: int, seed: int, size: int = 200) -> Iterator[tuple[bytes, bytes]]:
    """Message keys and values: ``keys`` distinct ids, values of about ``size`` bytes."""
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
        value = value[:-1] + b',"pad":"' + b"x" * (size - len(value) - 9) + b'"}'
        yield str(key).encode(), value


def fill(bootstrap: str, topic: str, source: Iterator[tuple[bytes, bytes]]) -> None:
    """Produce everything, spread by Kafka's default partitioner on the message key."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=50, batch_size=256 * 1024, acks=1
    )
    for key, value in source:
        producer.send(topic, key=key, value=value)
    producer.flush()
    producer.close()


def expected(source: Iterator[tuple[bytes, bytes]]) -> dict[int, tuple[Any, ...]]:
    """The rows that must be there in the end: id → (session_count, number of the last record)."""
    rows: dict[int, tuple[Any, ...]] = {}
    for _, value in source:
        document = orjson.loads(value)
        count, _ = rows.get(document["id"], (0, 0))
        rows[document["id"]] = (count + document["session_count"], document["tags"]["n"])
    return rows
