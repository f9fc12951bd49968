"""kafka-python's consumer as it is made here."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from pipeline.config.model import KafkaConfig

RECONNECT_MS = 1000
"""How often at least a broker that is away is tried again: what Kafka's own client does.

kafka-python's default is 30 s, for which partitions would stand still after the broker is back.
"""

HEARTBEAT_MS = 500
"""Members learn of a rebalance by the answer to a heartbeat, so partitions that move wait for one.

By kafka-python's default of 3 s they stood still for as long. What an idle member costs, 1 % of a
core, is the same at both paces.
"""


def make_consumer(config: KafkaConfig, client_id: str) -> Any:
    """A consumer of the group, connected. Blocks; options of the configuration win.

    Raises:
        KafkaError, OSError, ValueError: no broker answers, or an option is wrong.
    """
    options: dict[str, Any] = {
        "auto_offset_reset": "earliest",
        "fetch_max_bytes": 16 * 1024 * 1024,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        "max_poll_records": 2000,
        "metrics_enabled": False,
        "reconnect_backoff_max_ms": RECONNECT_MS,
    }
    options.update(config.options)
    return KafkaConsumer(
        bootstrap_servers=list(config.bootstrap_servers),
        group_id=config.group_id,
        client_id=client_id,
        enable_auto_commit=False,
        partition_assignment_strategy=[CooperativeStickyAssignor],
        **options,
    )
