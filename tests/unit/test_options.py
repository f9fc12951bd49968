"""What of ``[kafka]`` each of kafka-python's clients is made with."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.cluster import ClusterMetadata

from pipeline.config.model import KafkaConfig
from pipeline.kafka.options import SHARED, connection_options, create_no_topics

REACHING = {
    "sasl_mechanism": "PLAIN",
    "security_protocol": "SASL_SSL",
    "socks5_proxy": "socks5://proxy:1080",
    "ssl_cafile": "/etc/ca.pem",
}
OTHERS = {"group_instance_id": "one", "max_poll_records": 7, "session_timeout_ms": 9000}


@pytest.mark.parametrize(
    ("client", "isolated"),
    [(KafkaConsumer, True), (KafkaProducer, False), (KafkaAdminClient, False)],
)
def test_every_client_reaches_the_brokers_as_configured_and_takes_no_more(
    client: Any, isolated: bool
) -> None:
    """Dead letters did not go through the proxy that the consumer was configured with."""
    options = {**REACHING, **OTHERS, "isolation_level": "read_committed"}
    config = KafkaConfig(("b:1", "b:2"), ("t",), "g", options)
    isolation = {"isolation_level": "read_committed"} if isolated else {}
    assert connection_options(config, "name", client.DEFAULT_CONFIG) == {
        "bootstrap_servers": ["b:1", "b:2"],
        "client_id": "name",
        **REACHING,
        **isolation,
    }


def test_only_committed_records_are_read_unless_configured_otherwise() -> None:
    config = KafkaConfig(("b:1",), ("t",), "g", {})
    found = connection_options(config, "name", KafkaConsumer.DEFAULT_CONFIG)
    assert found["isolation_level"] == "read_committed"


def test_no_client_creates_topics() -> None:
    """kafka-python does not hand its option on to what asks for metadata."""
    cluster = ClusterMetadata()
    create_no_topics(cluster)
    assert not cluster.metadata_request().allow_auto_topic_creation


def test_each_shared_option_is_one_of_kafka_pythons() -> None:
    assert KafkaConsumer.DEFAULT_CONFIG.keys() >= SHARED
