"""The options that kafka-python's clients are made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka.cluster import ClusterMetadata
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from pipeline.config.model import KafkaConfig
from pipeline.kafka.bootstrap import usable_servers
from pipeline.kafka.positions import keep_positions

RECONNECT_MS = 1000
"""How often at least a broker that is away is tried again: what Kafka's own client does.

kafka-python's default is 30 s: partitions would stand still for that long after the broker is back.
"""

HEARTBEAT_MS = 500
"""Members learn of a rebalance by the answer to a heartbeat, so partitions that move wait for one.

With kafka-python's default of 3 s they stood still for that long. What an idle member costs, 1 % of a
core, is the same with both.
"""

METADATA_MS = 30_000
"""How soon partitions that were added are found. kafka-python's default is five minutes."""

COMMITTED = {"isolation_level": "read_committed"}
"""Records of transactions that were aborted, or are still open, are not read."""

SHARED_PREFIXES = ("security", "sasl", "ssl")
SHARED = frozenset(
    {
        "api_version",
        "client_dns_lookup",
        "isolation_level",
        "proxy_url",
        "receive_buffer_bytes",
        "send_buffer_bytes",
        "socket_options",
        "socks5_proxy",
    }
)
"""Options of ``[kafka]`` that hold for every client, beside those of `SHARED_PREFIXES`: how to reach
the brokers, and which records count as written. All others are the consumer's own."""


def make_consumer(config: KafkaConfig, client_id: str) -> KafkaConsumer:
    """Make the group's consumer and connect it. Blocks; options of the configuration win.

    Raises:
        NoServerError: no server lets this client in.
        KafkaError, OSError, ValueError: an option is wrong.
    """
    options: dict[str, Any] = {
        "allow_auto_create_topics": False,
        "auto_offset_reset": "earliest",
        "fetch_max_bytes": 16 * 1024 * 1024,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        **COMMITTED,
        "max_poll_records": 2000,
        "metadata_max_age_ms": METADATA_MS,
        "metrics_enabled": False,
        "reconnect_backoff_max_ms": RECONNECT_MS,
    }
    options.update(config.options)
    consumer = KafkaConsumer(
        bootstrap_servers=list(usable_servers(config)),
        group_id=config.group_id,
        client_id=client_id,
        enable_auto_commit=False,
        partition_assignment_strategy=[CooperativeStickyAssignor],
        **options,
    )
    create_no_topics(consumer._cluster)
    remember_servers(consumer._cluster, config)
    keep_positions(consumer)
    return consumer


def create_no_topics(cluster: ClusterMetadata) -> None:
    """Let a client's questions about topics create none: kafka-python 3.0.12 loses that option."""
    cluster.config["allow_auto_create_topics"] = False


def remember_servers(cluster: ClusterMetadata, kafka: KafkaConfig) -> None:
    """Let a client that began with one server fall back on all of them once no broker is known."""
    cluster.config["bootstrap_servers"] = list(kafka.bootstrap_servers)
    cluster._bootstrap_brokers = cluster._generate_bootstrap_brokers()


def reaching_options(
    kafka: KafkaConfig, client_id: str, known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return `connection_options` with a server that answers, so that none that hangs is taken. Blocks.

    Raises:
        NoServerError: no server lets this client in.
    """
    found = connection_options(kafka, client_id, known)
    return {**found, "bootstrap_servers": list(usable_servers(kafka))}


def connection_options(
    kafka: KafkaConfig, client_id: str, known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options that any other client connects with: servers, client id, `SHARED` ones.

    Args:
        known: the client's ``DEFAULT_CONFIG``: options that it does not have are left out.
    """
    shared = {
        name: value
        for name, value in {**COMMITTED, **kafka.options}.items()
        if name in known and (name in SHARED or name.startswith(SHARED_PREFIXES))
    }
    return {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "client_id": client_id,
        **shared,
    }
