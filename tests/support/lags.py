"""Records that are some hours old, and a group's offsets set from outside."""

from __future__ import annotations

import time

from kafka import KafkaAdminClient, KafkaProducer
from kafka import TopicPartition as KafkaPartition

from pipeline.config.load import load
from pipeline.operate import cluster
from pipeline.records.record import TopicPartition
from tests.support.accounts import change
from tests.support.pipelines import Job

HOUR_MS = 3_600_000


def send_aged(job: Job, partition: int, *hours: int) -> None:
    """A record for each age, each of a row of its own."""
    producer = KafkaProducer(bootstrap_servers=job.bootstrap)
    now = int(time.time() * 1000)
    for number, hour in enumerate(hours):
        key, value = change(number, number)
        stamp = now - hour * HOUR_MS
        producer.send(job.topic, key=key, value=value, partition=partition, timestamp_ms=stamp)
    producer.flush()
    producer.close()


def send_in_a_transaction(job: Job, partition: int) -> None:
    """A record, and after it the marker of its transaction: an offset that holds no record."""
    producer = KafkaProducer(bootstrap_servers=job.bootstrap, transactional_id=job.topic)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(job.topic, value=b"{}", partition=partition)
    producer.commit_transaction()
    producer.close()


def commit(job: Job, **offsets: int) -> None:
    """``commit(job, p0=3)``: set the group's offset of partition 0 to 3."""
    with cluster.open_cluster(load(job.config)) as connected:
        connected.commit(
            {
                TopicPartition(job.topic, int(name[1:])): cluster.Committed(offset, "")
                for name, offset in offsets.items()
            }
        )


def delete_below(job: Job, partition: int, offset: int) -> None:
    """As retention would."""
    admin = KafkaAdminClient(bootstrap_servers=job.bootstrap)
    admin.delete_records({KafkaPartition(job.topic, partition): offset})
    admin.close()
