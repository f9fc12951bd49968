"""kafka-python's producer as it is made here."""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer

from pipeline.config.model import KafkaConfig
from pipeline.kafka.options import RECONNECT_MS, connection_options


def make_producer(kafka: KafkaConfig, client_id: str, **options: Any) -> KafkaProducer:
    """Make an idempotent producer whose records are acknowledged by all replicas. Blocks.

    Args:
        options: more of `kafka.KafkaProducer`'s options.

    Raises:
        KafkaError, OSError: no broker answers.
    """
    return KafkaProducer(
        **connection_options(kafka, client_id, KafkaProducer.DEFAULT_CONFIG),
        acks="all",
        enable_idempotence=True,
        reconnect_backoff_max_ms=RECONNECT_MS,
        **options,
    )
