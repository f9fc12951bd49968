"""A load whose end state shows every fault: what is lost, applied twice, or applied out of order.

The table is compared with a model made from the topic itself, read back record by record, so the
model holds whatever the producer went through. ``seen`` and ``total`` are added up: a record lost or
applied twice changes them. ``last`` and ``marks`` keep the newest values: order within a key shows in
them. And a trigger notes each update that goes back to an earlier offset, even where a later one
covers it up.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import orjson
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from pipeline.local.postgres import psql

TABLE = """\
create table accounts (
    id bigint primary key, seen bigint not null, total bigint not null,
    last bigint not null, at_offset bigint not null, marks jsonb not null
);
create table violations (id bigint, was bigint, became bigint);
create function watch_order() returns trigger language plpgsql as $$
begin
    if new.at_offset <= old.at_offset then
        insert into violations values (old.id, old.at_offset, new.at_offset);
    end if;
    return new;
end $$;
create trigger watch_order before update on accounts for each row execute function watch_order();
"""

SINK = """\
[sink]
table = "public.accounts"
primary_key = ["id"]

[sink.columns]
id = "id"
seen = { from = "one", merge = "add" }
total = { from = "amount", merge = "add" }
last = "n"
at_offset = "@offset"
marks = { from = "marks", merge = "jsonb" }
"""

Message = tuple[bytes | None, bytes | None]
"""A message's key and value."""


@attrs.frozen
class Row:
    """A row of ``accounts`` without its id."""

    seen: int
    total: int
    last: int
    at_offset: int
    marks: dict[str, int]


def changes(count: int, keys: int, seed: int, first: int = 0) -> Iterator[Message]:
    """Messages numbered from ``first`` on; one in five is for key 0, the hot one."""
    choose = random.Random(seed)
    for n in range(first, first + count):
        key = 0 if choose.random() < 0.2 else choose.randrange(keys)
        yield change(key, n, choose.randrange(1, 1000))


def change(key: int, n: int, amount: int = 1) -> Message:
    """One message of the load."""
    value = {"id": key, "one": 1, "amount": amount, "n": n, "marks": {str(n % 5): n}}
    return str(key).encode(), orjson.dumps(value)


def produce(
    bootstrap: str, topic: str, messages: Iterable[Message], partition: int | None = None
) -> int:
    """Send messages, return how many once all are acknowledged. Raises any KafkaError."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    sent = [
        producer.send(topic, key=key, value=value, partition=partition) for key, value in messages
    ]
    producer.flush()
    producer.close()
    for future in sent:
        future.get(timeout=0)
    return len(sent)


def read_topic(bootstrap: str, topic: str) -> dict[int, list[Any]]:
    """Everything on a topic: partition → its records in order."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    numbers = consumer.partitions_for_topic(topic)
    partitions = [TopicPartition(topic, number) for number in sorted(numbers or ())]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    log: dict[int, list[Any]] = {partition.partition: [] for partition in partitions}
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for source, records in consumer.poll(timeout_ms=500).items():
            log[source.partition].extend(records)
    consumer.close()
    return log


def model(log: Mapping[int, Iterable[Any]]) -> dict[int, Row]:
    """The rows that the records of these partitions make, each applied once and in order."""
    rows: dict[int, Row] = {}
    for records in log.values():
        for record in records:
            value = orjson.loads(record.value)
            old = rows.get(value["id"], Row(0, 0, 0, 0, {}))
            rows[value["id"]] = Row(
                old.seen + 1,
                old.total + value["amount"],
                value["n"],
                record.offset,
                {**old.marks, **value["marks"]},
            )
    return rows


def stored(dsn: str) -> dict[int, Row]:
    """The rows that are there."""
    rows = {}
    columns = "id, seen, total, last, at_offset, marks"
    for line in psql(dsn, f"select {columns} from accounts").splitlines():
        *numbers, marks = line.split("|")
        key, seen, total, last, at_offset = map(int, numbers)
        rows[key] = Row(seen, total, last, at_offset, orjson.loads(marks))
    return rows


def differences(log: Mapping[int, Iterable[Any]], dsn: str) -> list[str]:
    """What is wrong in the table, a line each; empty where every row is as the log says."""
    wanted, found = model(log), stored(dsn)
    lines = [
        f"account {key}: expected {wanted.get(key)}, found {found.get(key)}"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]
    for line in psql(dsn, "select * from violations").splitlines():
        lines.append("account {}: offset {} was followed by {}".format(*line.split("|")))
    return lines
