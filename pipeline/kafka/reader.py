"""Single records, read by a consumer of its own that is in no group.

It shares nothing with the consumer that fetches: reading disturbs no position, pause or rebalance.
All functions block: they are for worker threads and for commands, one thread at a time per consumer.
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
from pipeline.kafka.options import reaching_options
from pipeline.records.record import FirstRecords, Spans, TopicPartition

log = logging.getLogger(__name__)

FETCH_BYTES = 64 * 1024
"""How much is fetched per partition for one record. Kafka sends a larger batch whole."""

FETCH_SECONDS = 5.0
"""For all partitions together. Those that don't answer in time are left out."""

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.25


@contextmanager
def open_reader(kafka: KafkaConfig, client_id: str, **options: Any) -> Iterator[KafkaConsumer]:
    """Open a consumer without a group, and close it in the end.

    Args:
        options: more of `kafka.KafkaConsumer`'s options.

    Raises:
        KafkaError, OSError: no broker answers.
    """
    consumer = KafkaConsumer(
        **reaching_options(kafka, client_id, KafkaConsumer.DEFAULT_CONFIG),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **options,
    )
    with closing(consumer):
        yield consumer


def read_first(kafka: KafkaConfig, client_id: str, spans: Spans) -> FirstRecords:
    """Connect, read the first record in each span, disconnect. Raises nothing.

    Returns at most `CONNECT_SECONDS` and `FETCH_SECONDS` later; what can't be read is left out.
    """
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


def first_records(consumer: KafkaConsumer, spans: Spans, seconds: float) -> FirstRecords:
    """Return the first record in each span of offsets (half-open), None if a span holds none.

    Partitions that don't answer within ``seconds`` are left out.

    Raises:
        KafkaError: a fetch failed.
    """
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


def seek(consumer: KafkaConsumer, starts: Mapping[TopicPartition, int]) -> None:
    """Assign these partitions and no others, to be read from these offsets on."""
    consumer.assign([KafkaPartition(*source) for source in starts])
    for source, start in starts.items():
        consumer.seek(KafkaPartition(*source), start)


def position(consumer: KafkaConsumer, source: TopicPartition) -> int:
    """Return the offset that is read next."""
    return consumer.position(KafkaPartition(*source))
