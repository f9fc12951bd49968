"""The three brokers that tests break: one of them may go, and comes back."""

from __future__ import annotations

import signal

import pytest
from kafka import KafkaProducer

from tests.support.brokers import Cluster
from tests.support.servers import TopicFactory

pytestmark = pytest.mark.real


def produce(brokers: Cluster, topic: str, value: bytes) -> int:
    """Send one record to the brokers that serve; its offset."""
    servers = [broker.bootstrap for broker in brokers.serving]
    # With idempotence, kafka-python may ask a frozen broker for its producer id, and fails for good.
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=False)
    try:
        offset: int = producer.send(topic, value).get(timeout=60).offset
        return offset
    finally:
        producer.close(timeout=1)


def test_topics_have_three_replicas(brokers: Cluster, broker_topic: TopicFactory) -> None:
    name = broker_topic(partitions=6)
    assert sorted(brokers.partition(name, 0)["replica_nodes"]) == [1, 2, 3]
    assert {brokers.leader(name, n).node for n in range(6)} == {1, 2, 3}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_another_leads_where_the_leader_goes(
    brokers: Cluster, broker_topic: TopicFactory, number: signal.Signals
) -> None:
    name = broker_topic()
    leader = brokers.leader(name, 0)
    leader.kill(number)
    assert leader not in brokers.serving
    other = brokers.wait_for_leader(name, 0, other_than=leader)
    assert other is not leader
    assert produce(brokers, name, b"kept") == 0
    brokers.heal()
    brokers.wait_in_sync(name)
    assert len(brokers.serving) == 3


def test_who_coordinates_a_group(brokers: Cluster) -> None:
    assert brokers.coordinator("some-group") in brokers.brokers


def test_a_topic_on_chosen_brokers(brokers: Cluster) -> None:
    brokers.place_topic("on-two", {0: [2, 1], 1: [3, 1]})
    assert brokers.leader("on-two", 0).node == 2
    assert brokers.partition("on-two", 1)["replica_nodes"] == [3, 1]
    brokers.delete_topic("on-two")


def test_an_unclean_election_cuts_a_log_short(brokers: Cluster) -> None:
    settings = {"unclean_leader_election_enable": "true", "min_insync_replicas": "1"}
    brokers.place_topic("cut-short", {0: [2, 1]}, **settings)
    assert produce(brokers, "cut-short", b"kept") == 0

    def lost() -> None:
        assert produce(brokers, "cut-short", b"lost") == 1

    brokers.cut_short("cut-short", lost)
    assert produce(brokers, "cut-short", b"after") == 1
    brokers.delete_topic("cut-short")
