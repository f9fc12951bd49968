"""What `pipeline check` makes of the newest records: whose they are, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.check.tenants import TenantFacts, scattered_tenants
from pipeline.config.load import load
from pipeline.config.model import Config
from pipeline.partitioner import partition_for
from pipeline.records.record import TopicPartition

CONFIG = """\
[pipeline]
name = "sessions"
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = ["sessions", "orders"]
[records]
key = "id"
tenant = "app_id"
[sink]
table = "public.subscriptions"
primary_key = ["id"]
[sink.columns]
id = "id"
[[shards]]
name = "db0"
dsn = "postgresql://one/db0"
partitions = "0-2"
[[shards]]
name = "db1"
dsn = "postgresql://two/db1"
partitions = "3-5"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "sessions.toml"
    path.write_text(CONFIG)
    return load(path)


def facts(*found: tuple[str, int, str | None]) -> TenantFacts:
    """From the topic, the partition and the tenant of each record."""
    made = TenantFacts()
    for topic, partition, tenant in found:
        made.count(TopicPartition(topic, partition), tenant, 6)
    return made


def warnings(config: Config, found: TenantFacts) -> list[str]:
    told = list(scattered_tenants(config, found))
    assert all(mistake.key == "records.tenant" for mistake in told)
    return [mistake.message for mistake in told]


@pytest.mark.parametrize(
    ("key", "partition"), [("app-00", 0), ("app-01", 4), ("", 3), ("Zoë", 4), ("21", 0)]
)
def test_the_default_partition_is_kafkas(key: str, partition: int) -> None:
    """As Kafka's own Java client places these keys among six partitions."""
    assert partition_for(key.encode(), 6) == partition


def test_tenants_in_one_partition_each_are_as_they_should_be(config: Config) -> None:
    found = facts(("sessions", 0, "a"), ("sessions", 0, "a"), ("sessions", 0, "b"))
    assert warnings(config, found) == []
    assert (found.records, found.without, len(found.places)) == (3, 0, 2)


def test_a_tenant_may_be_elsewhere_on_another_topic(config: Config) -> None:
    """Topics with other partition counts have other partitions; that is warned of by itself."""
    assert warnings(config, facts(("sessions", 0, "a"), ("orders", 1, "a"))) == []


def test_a_tenant_in_several_partitions_is_warned_of_with_its_shards(config: Config) -> None:
    one = facts(("sessions", 0, "a"), ("sessions", 2, "a"), ("sessions", 1, "b"))
    (message,) = warnings(config, one)
    assert "1 of 2 tenants have records in several partitions" in message
    assert "(such as 'a': sessions 0,2, shard db0)" in message
    (message,) = warnings(config, facts(("sessions", 2, "a"), ("sessions", 3, "a")))
    assert "(such as 'a': sessions 2-3, shards db0, db1)" in message


def test_records_without_a_tenant_are_warned_of(config: Config) -> None:
    (message,) = warnings(config, facts(("sessions", 0, None), ("sessions", 0, "a")))
    assert message.startswith("1 of the 2 newest records have no app_id")


def test_what_can_not_be_read_is_told(config: Config) -> None:
    (message,) = warnings(config, TenantFacts(problem="no answer within 8 s"))
    assert message == "the newest records can't be read: no answer within 8 s"


def test_records_elsewhere_than_the_default_partitioner_puts_them_are_counted() -> None:
    home = partition_for(b"a", 6)
    assert facts(("sessions", home, "a")).elsewhere == 0
    assert facts(("sessions", (home + 1) % 6, "a"), ("sessions", home, "a")).elsewhere == 1
