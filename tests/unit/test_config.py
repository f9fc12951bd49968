"""The configuration: what loads, and what it comes to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.kinds import parse_partitions, seconds
from pipeline.config.load import load
from pipeline.config.model import (
    ColumnConfig,
    Config,
    HttpConfig,
    KafkaConfig,
    PipelineConfig,
    ShardConfig,
    SinkConfig,
)
from pipeline.config.secrets import hide_password
from tests.support.certificates import Authority
from tests.support.configurations import DSN, document, shards, sink

DOCUMENTED = """
[pipeline]
name = "sessions"                  # application_name in Postgres, client.id in Kafka
delivery = "exactly-once"          # or "at-least-once"

[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = ["sessions"]
group_id = "sessions"
# any other key is a kafka-python option of that name (security_protocol, sasl_mechanism, ssl_cafile, …)

[records]
format = "json"
key = "id"                         # path into the value; a list means several keys; "@key" is the message key, "@header:NAME" a header
tenant = "app_id"

[sink]
table = "public.subscriptions"
mode = "upsert"
primary_key = ["id"]

[sink.columns]
id = "id"                          # column = path in the value
app_id = "app_id"
last_seen = { from = "last_seen", merge = "max" }
tags = { from = "tags", merge = "jsonb" }
session_count = { from = "session_count", merge = "add" }

[[shards]]
name = "db0"
dsn = "${DB0_DSN}"                 # postgresql://…
partitions = "0-2"                 # left out: all
connections = 8

[limits]
max_buffered = 20000               # records a partition holds before it is paused
max_batch = 1000                   # records in one transaction
drain_deadline = "10s"

[errors]
dead_letter_topic = "sessions.dlq"

[http]
listen = "127.0.0.1:9187"
"""  # noqa: E501

Loader = Callable[[str], Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    def load_text(text: str) -> Config:
        path = tmp_path / "pipeline.toml"
        path.write_text(text)
        return load(path)

    return load_text


def test_the_documented_example_loads(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DB0_DSN", DSN)
    config = loaded(DOCUMENTED)
    assert config.source == str(tmp_path / "pipeline.toml")
    assert config.pipeline.name == "sessions"
    assert config.kafka == KafkaConfig(("127.0.0.1:9092",), ("sessions",), "sessions", {})
    assert (config.records.keys, config.records.tenant) == (("id",), "app_id")
    assert config.sink == SinkConfig(
        table="public.subscriptions",
        primary_key=("id",),
        columns=(
            ColumnConfig("id", "id"),
            ColumnConfig("app_id", "app_id"),
            ColumnConfig("last_seen", "last_seen", "max"),
            ColumnConfig("tags", "tags", "jsonb"),
            ColumnConfig("session_count", "session_count", "add"),
        ),
    )
    assert config.shards == (ShardConfig("db0", DSN, frozenset({0, 1, 2}), 8),)
    assert config.limits.drain_deadline == 10.0
    assert config.errors.dead_letter_topic == "sessions.dlq"
    assert config.http == HttpConfig("127.0.0.1", 9187)


def test_what_is_left_out_has_defaults(loaded: Loader) -> None:
    config = loaded(document())
    assert config.pipeline.delivery == "exactly-once"
    assert config.pipeline.owner.endswith(f"-{os.getpid()}")
    assert config.kafka.group_id == "p"
    assert config.kafka.bootstrap_servers == ("k:9092",)
    assert config.records.keys == ("@key",)
    assert config.sink.tombstone == "ignore"
    assert config.shards[0].partitions is None
    assert config.http is None


def test_values_are_frozen_and_slotted() -> None:
    config = PipelineConfig("p")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.name = "q"  # type: ignore[misc]
    assert not hasattr(config, "__dict__")


def test_servers_may_stand_in_one_string(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERS", "a:9092, b:9092")
    for written in ('"${BROKERS}"', '["${BROKERS}"]', '[" a:9092", "b:9092 "]'):
        text = document().replace('"k:9092"', written)
        assert loaded(text).kafka.bootstrap_servers == ("a:9092", "b:9092")


def test_the_environment_fills_in(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "a${HOME}b")
    monkeypatch.setenv("TOPIC", "sessions")
    text = document(kafka='security_protocol = "SSL"\nssl_password = "<${PASSWORD}>"')
    config = loaded(text.replace('topics = "t"', 'topics = ["${TOPIC}", "x.${TOPIC}"]'))
    assert config.kafka.options["ssl_password"] == "<a${HOME}b>"
    assert config.kafka.topics == ("sessions", "x.sessions")


def test_kafka_options_are_passed_on(loaded: Loader, authority: Authority) -> None:
    lines = f'security_protocol = "SSL"\nmax_poll_records = 5000\nssl_cafile = "{authority.ca}"'
    assert dict(loaded(document(kafka=lines)).kafka.options) == {
        "security_protocol": "SSL",
        "max_poll_records": 5000,
        "ssl_cafile": str(authority.ca),
    }


def test_a_handler_takes_the_place_of_a_table(loaded: Loader) -> None:
    config = loaded(sink('handler = "shop.orders:apply"\nscope = "batch"'))
    assert config.sink == SinkConfig(handler="shop.orders:apply", scope="batch")


def test_an_insert_needs_no_primary_key(loaded: Loader) -> None:
    assert loaded(sink('table = "t"\nmode = "insert"\ncolumns = { a = "a" }')).sink.mode == "insert"


@pytest.mark.parametrize("source", ["@key", "@key.id", "@header:id"])
def test_a_delete_finds_its_row_without_a_value(loaded: Loader, source: str) -> None:
    columns = (
        f'tombstone = "delete"\ntable = "t"\nprimary_key = "id"\ncolumns = {{ id = "{source}" }}'
    )
    assert loaded(sink(columns)).sink.tombstone == "delete"


def test_each_partition_has_its_shard(loaded: Loader) -> None:
    config = loaded(shards('name = "a"\npartitions = "0,3-5"', 'name = "b"\npartitions = [1, 2]'))
    assert [config.shard_for(n).name for n in range(6)] == ["a", "b", "b", "a", "a", "a"]
    with pytest.raises(LookupError, match=r"no shard covers partition 6: .* one of a, b"):
        config.shard_for(6)


def test_the_only_shard_has_all_partitions(loaded: Loader) -> None:
    assert loaded(document()).shard_for(123).name == "db0"


def as_ranges(numbers: frozenset[int]) -> str:
    """The shortest text for a set of partitions."""
    starts = sorted(n for n in numbers if n - 1 not in numbers)
    ends = sorted(n for n in numbers if n + 1 not in numbers)
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)


@given(st.frozensets(st.integers(0, 60), min_size=1))
def test_partitions_read_back_as_they_were(numbers: frozenset[int]) -> None:
    assert parse_partitions(as_ranges(numbers)) == numbers
    assert parse_partitions(as_ranges(numbers).replace(",", " , ")) == numbers
    assert parse_partitions(list(numbers)) == numbers


@given(st.integers(0, 10**9))
def test_durations_agree_across_units(millis: int) -> None:
    assert seconds(f"{millis}ms") == seconds(millis / 1000) == millis / 1000
    assert seconds(f"{millis}m") == seconds(f"{millis * 60}s") == seconds(millis * 60)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        (DSN, "postgresql://app:***@127.0.0.1:5432/app"),
        ("postgresql://app:a@b:c/d@h/db", "postgresql://app:***@h/db"),
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("postgresql://h/db?user=u&password=x&ssl=on", "postgresql://h/db?user=u&password=***&ssl=on"),
    ],
)  # fmt: skip
def test_passwords_are_hidden(dsn: str, shown: str) -> None:
    assert hide_password(dsn) == shown
    assert repr(shown) in repr(ShardConfig("a", dsn))


def test_secret_kafka_options_are_hidden() -> None:
    options = {"sasl_plain_password": "s3cr3t", "ssl_cafile": "ca.pem"}
    shown = repr(KafkaConfig(("k",), ("t",), "g", options))
    assert "s3cr3t" not in shown
    assert "ca.pem" in shown


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:0", HttpConfig("127.0.0.1", 0)),
        ("[::1]:9187", HttpConfig("::1", 9187)),
        ("metrics.internal:80", HttpConfig("metrics.internal", 80)),
    ],
)
def test_listen(loaded: Loader, listen: str, expected: HttpConfig) -> None:
    assert loaded(document(more=f'[http]\nlisten = "{listen}"')).http == expected
