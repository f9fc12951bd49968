"""A transactional producer: what it commits, what it aborts, and what it leaves open.

A topic that it wrote to ends in a marker, an offset without a record::

    with transactional_producer(servers.bootstrap) as producer:
        send_transaction(producer, topic, [b"1", b"2"])                  # committed
        send_transaction(producer, topic, [b"3"], end="abort")           # never to be seen
        send_transaction(producer, topic, [b"4"], end="leave open")      # holds up what comes after
        ...
        producer.commit_transaction()                                    # or abort_transaction()

What is open when the block ends is aborted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal
from uuid import uuid4

from kafka import KafkaProducer
from kafka.errors import KafkaError

OPEN_MS = 15 * 60 * 1000
"""How long the coordinator lets a transaction be open: the brokers' limit."""


@contextmanager
def transactional_producer(bootstrap: str) -> Iterator[KafkaProducer]:
    """A producer with a transactional id of its own, ready to begin a transaction."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap.split(","),
        transactional_id=f"tests-{uuid4().hex[:8]}",
        transaction_timeout_ms=OPEN_MS,
    )
    try:
        producer.init_transactions()
        yield producer
    finally:
        with suppress(KafkaError):
            producer.abort_transaction()
        producer.close(timeout=5)


def send_transaction(
    producer: KafkaProducer,
    topic: str,
    values: Sequence[bytes],
    *,
    partition: int = 0,
    key: bytes | None = None,
    end: Literal["commit", "abort", "leave open"] = "commit",
) -> int:
    """Begin a transaction, send, and end it or leave it open; the offset of the last record.

    The records are in Kafka when this returns.
    """
    producer.begin_transaction()
    sent = [producer.send(topic, value, key, partition=partition) for value in values]
    producer.flush()
    last: int = sent[-1].get(timeout=30).offset
    if end == "commit":
        producer.commit_transaction()
    elif end == "abort":
        producer.abort_transaction()
    return last
