"""What tests do to topics: each operation has done what it says when it returns."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError, InvalidRecordError, MessageSizeTooLargeError

from pipeline.local import Servers
from tests.support.raw_batches import Codec, RawRecord, produce_raw, raw_batch, varint
from tests.support.servers import TopicFactory
from tests.support.topics import (
    add_partitions,
    delete_records,
    delete_topic,
    log_bounds,
    partition_count,
    recreate_topic,
    set_topic_config,
    topic_id,
)
from tests.support.transactions import send_transaction, transactional_producer

pytestmark = pytest.mark.real


def fill(servers: Servers, topic: str, count: int) -> None:
    records = [RawRecord(value=b"%d" % n) for n in range(count)]
    produce_raw(servers.bootstrap, topic, 0, raw_batch(records))


def values(servers: Servers, topic: str, isolation_level: str = "read_committed") -> list[bytes]:
    """The values of partition 0 that are to be seen now."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=servers.bootstrap,
        isolation_level=isolation_level,
        auto_offset_reset="earliest",
    )
    try:
        consumer.assign([partition])
        found: list[bytes] = []
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            for records in consumer.poll(1000).values():
                found += [record.value for record in records]
        return found
    finally:
        consumer.close()


def test_a_topic_made_anew_is_another(servers: Servers, topic: TopicFactory) -> None:
    name = topic(2)
    fill(servers, name, 5)
    before = topic_id(servers.bootstrap, name)
    recreate_topic(servers.bootstrap, name, partitions=3)
    assert topic_id(servers.bootstrap, name) not in {before, None}
    assert log_bounds(servers.bootstrap, name) == {0: (0, 0), 1: (0, 0), 2: (0, 0)}
    delete_topic(servers.bootstrap, name)
    assert topic_id(servers.bootstrap, name) is None


def test_partitions_are_added(servers: Servers, topic: TopicFactory) -> None:
    name = topic(2)
    add_partitions(servers.bootstrap, name, 5)
    assert partition_count(servers.bootstrap, name) == 5


def test_records_are_deleted(servers: Servers, topic: TopicFactory) -> None:
    name = topic()
    fill(servers, name, 20)
    delete_records(servers.bootstrap, name, {0: 11})
    assert log_bounds(servers.bootstrap, name) == {0: (11, 20)}
    assert values(servers, name)[0] == b"11"


def test_a_topic_is_configured(servers: Servers, topic: TopicFactory) -> None:
    name = topic()
    set_topic_config(servers.bootstrap, name, max_message_bytes="1000")
    with pytest.raises(MessageSizeTooLargeError):
        produce_raw(servers.bootstrap, name, 0, raw_batch([RawRecord(value=b"x" * 2000)]))


def test_transactions(servers: Servers, topic: TopicFactory) -> None:
    name = topic()
    with transactional_producer(servers.bootstrap) as producer:
        send_transaction(producer, name, [b"1", b"2"])
        assert log_bounds(servers.bootstrap, name) == {0: (0, 3)}  # the marker has an offset
        send_transaction(producer, name, [b"3"], end="abort")
        send_transaction(producer, name, [b"4"], end="leave open")
        produce_raw(servers.bootstrap, name, 0, raw_batch([RawRecord(value=b"5")]))
        assert values(servers, name) == [b"1", b"2"]
        assert values(servers, name, "read_uncommitted") == [b"1", b"2", b"3", b"4", b"5"]
        producer.commit_transaction()
        assert values(servers, name) == [b"1", b"2", b"4", b"5"]
        send_transaction(producer, name, [b"6"], end="leave open")
    assert values(servers, name) == [b"1", b"2", b"4", b"5"]


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_a_raw_batch_is_a_batch(servers: Servers, topic: TopicFactory, codec: Codec) -> None:
    name = topic()
    records = [
        RawRecord(value=b"v" * 300, key=b"k", headers=[("é".encode(), b"x"), (b"n", None)]),
        RawRecord(timestamp=1_700_000_000_000),
    ]
    first = produce_raw(servers.bootstrap, name, 0, raw_batch(records, codec))
    assert first == 0
    consumer = KafkaConsumer(name, bootstrap_servers=servers.bootstrap,
                             auto_offset_reset="earliest")  # fmt: skip
    found = [record for _, record in zip(range(2), consumer, strict=False)]
    consumer.close()
    assert (found[0].key, found[0].value) == (b"k", b"v" * 300)
    assert list(found[0].headers) == [("é", b"x"), ("n", None)]
    assert found[1].value is None
    assert found[1].timestamp == 1_700_000_000_000


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_a_header_name_that_is_not_utf8(
    servers: Servers, topic: TopicFactory, codec: Codec
) -> None:
    name = topic()
    record = RawRecord(value=b"{}", headers=[(b"caf\xe9", b"x")])
    produce_raw(servers.bootstrap, name, 0, raw_batch([record], codec))
    with pytest.raises(CorruptRecordError, match="UnicodeDecodeError"):
        values(servers, name)


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_a_record_that_is_framed_wrong(servers: Servers, topic: TopicFactory, codec: Codec) -> None:
    """The broker refuses it: what is framed wrong can't come from a topic."""
    one_header_that_is_not_there = varint(0) * 3 + varint(-1) * 2 + varint(1)
    broken = RawRecord(body=one_header_that_is_not_there)
    with pytest.raises((CorruptRecordError, InvalidRecordError)):
        produce_raw(servers.bootstrap, topic(), 0, raw_batch([broken], codec))
