"""Single records, read by a consumer of its own that is in no group.

It shares nothing with the consumer that fetches: reading disturbs no position, pause or rebalance.
Blocking calls, for worker threads and for commands.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import TopicPartition as KafkaPartition

from pipeline.config.model import KafkaConfig
from pipeline.kafka.options import connection_options
from pipeline.records.record import FirstRecords, Spans, TopicPartition

log = logging.getLogger(__name__)

FETCH_BYTES = 64 * 1024
"""Of each partition, for one record; Kafka sends a larger batch whole."""

FETCH_SECONDS = 5.0
"""For all partitions together; those that don't answer are left out."""

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.25


@contextmanager
def open_reader(kafka: KafkaConfig, client_id: str, **options: Any) -> Iterator[Any]:
    """A consumer without a group; ``options`` are more of kafka-python's.

    Raises:
        KafkaError, OSError: no broker answers.
    """
    consumer = KafkaConsumer(
        **connection_options(kafka, client_id, KafkaConsumer.DEFAULT_CONFIG),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **options,
    )
    with closing(consumer):
        yield consumer


def read_first(kafka: KafkaConfig, client_id: str, spans: Spans) -> FirstRecords:
    """Connect, read the first record in each span, disconnect. What can't be read is left out."""
    try:
        with open_reader(
            kafka,
            client_id,
            bootstrap_timeout_ms=int(CONNECT_SECONDS * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
            metrics_enabled=False,
        ) as consumer:
            return first_records(consumer, spans, FETCH_SECONDS)
    except Exception as error:  # whatever it is, only a gauge wants these records
        log.debug("the oldest waiting records can't be read: %s: %s", type(error).__name__, error)
        return {}


def first_records(consumer: Any, spans: Spans, seconds: float) -> FirstRecords:
    """The first record in each span. Partitions that don't answer within ``seconds`` are left out."""
    seek(consumer, {source: start for source, (start, _) in spans.items()})
    found: FirstRecords = {}
    deadline = time.monotonic() + seconds
    while len(found) < len(spans) and time.monotonic() < deadline:
        for place, records in consumer.poll(timeout_ms=POLL_SECONDS * 1000).items():
            source = TopicPartition(*place)
            if source not in found and records:
                first = records[0]
                found[source] = first if first.offset < spans[source][1] else None
                consumer.pause(place)
        for source, (_, end) in spans.items():
            if source not in found and position(consumer, source) >= end:
                found[source] = None
                consumer.pause(KafkaPartition(*source))
    return found


def seek(consumer: Any, starts: Mapping[TopicPartition, int]) -> None:
    """Read these partitions and no others, from these offsets on."""
    consumer.assign([KafkaPartition(*source) for source in starts])
    for source, start in starts.items():
        consumer.seek(KafkaPartition(*source), start)


def position(consumer: Any, source: TopicPartition) -> int:
    """The offset that is read next."""
    found: int = consumer.position(KafkaPartition(*source))
    return found
