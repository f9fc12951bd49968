"""What an operator does to a topic while the pipeline reads it.

Functions on a broker's address; each returns when the change is in force::

    recreate_topic(servers.bootstrap, name, partitions=6)      # another topic of the same name
    delete_records(servers.bootstrap, name, {0: 11})           # as retention does: 11 comes first
    add_partitions(servers.bootstrap, name, total=8)
    set_topic_config(servers.bootstrap, name, max_message_bytes="200000")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE


@contextmanager
def admin_of(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """An admin client of a cluster (addresses divided by commas), closed at the end."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), client_id="pipeline-tests")
    try:
        yield client
    finally:
        client.close()


def topic_id(bootstrap: str, topic: str) -> UUID | None:
    """The topic's identity, which a topic made anew does not share; None if there is no topic."""
    with admin_of(bootstrap) as admin:
        (told,) = admin.describe_topics([topic])
    return None if told["error_code"] else UUID(str(told["topic_id"]))


def partition_count(bootstrap: str, topic: str) -> int:
    """How many partitions the brokers know of; 0 if there is no topic."""
    with admin_of(bootstrap) as admin:
        (told,) = admin.describe_topics([topic])
    return len(told["partitions"])


def create_topic(
    bootstrap: str, topic: str, partitions: int = 1, settings: Mapping[str, str] | None = None
) -> None:
    """Create a topic and return when each of its partitions has a leader."""
    options = {"num_partitions": partitions, "configs": dict(settings or {})}
    with admin_of(bootstrap) as admin:
        admin.create_topics({topic: options}, wait_for_metadata=True)


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic and return when the brokers no longer tell of it."""
    with admin_of(bootstrap) as admin:
        admin.delete_topics([topic])
    _wait(lambda: topic_id(bootstrap, topic) is None, f"{topic} is still there")


def recreate_topic(
    bootstrap: str, topic: str, partitions: int = 1, settings: Mapping[str, str] | None = None
) -> None:
    """Delete a topic and create another of the same name; its offsets begin at 0 again."""
    delete_topic(bootstrap, topic)
    create_topic(bootstrap, topic, partitions, settings)


def add_partitions(bootstrap: str, topic: str, total: int) -> None:
    """Let a topic have so many partitions altogether."""
    with admin_of(bootstrap) as admin:
        admin.create_partitions({topic: total})
    _wait(lambda: partition_count(bootstrap, topic) == total, f"{topic} has not grown")


def delete_records(bootstrap: str, topic: str, before: Mapping[int, int]) -> None:
    """Delete the records before an offset, partition → offset: that one comes first then."""
    chosen = {TopicPartition(topic, partition): offset for partition, offset in before.items()}
    with admin_of(bootstrap) as admin:
        admin.delete_records(chosen)
    starts = log_bounds(bootstrap, topic)
    assert all(starts[partition][0] == offset for partition, offset in before.items()), starts


def set_topic_config(bootstrap: str, topic: str, **settings: str) -> None:
    """Set a topic's settings, Kafka's with _ for . in the names, and wait until they are told."""
    given = {name.replace("_", "."): value for name, value in settings.items()}

    def told() -> bool:
        with admin_of(bootstrap) as admin:
            answer = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        known = answer["topic"][topic]
        return all(known.get(name, {}).get("value") == value for name, value in given.items())

    with admin_of(bootstrap) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, given)])
    _wait(told, f"{topic} has not got {given}")


def log_bounds(bootstrap: str, topic: str) -> dict[int, tuple[int, int]]:
    """Partition → the offset of its first record, and the offset after its last one."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","))
    try:
        partitions = [TopicPartition(topic, n) for n in range(partition_count(bootstrap, topic))]
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        return {p.partition: (first[p], end[p]) for p in partitions}
    finally:
        consumer.close()


def _wait(condition: Callable[[], bool], problem: str) -> None:
    assert wait_until(condition, PATIENCE), problem
