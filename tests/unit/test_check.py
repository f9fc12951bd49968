"""`pipeline check`: from facts to mistakes, warnings and the plan. What asks for the facts is real,
and is tested with the real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import attrs
import pytest

from pipeline.check import Findings, advice, rules
from pipeline.check.brokers import ABSENT, KafkaFacts
from pipeline.check.databases import LedgerFacts, ShardFacts, room
from pipeline.check.plan import WIDTH, plan
from pipeline.config.load import load
from pipeline.config.model import Config, ShardConfig, SynchronousCommit
from pipeline.postgres.ledger.schema import VERSION
from pipeline.postgres.sink.catalog import Column, Table

CONFIG = """\
[pipeline]
name = "sessions"
{pipeline}

[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = {topics}

[records]
key = {key}

{sink}

[[shards]]
name = "db0"
dsn = "postgresql://app:secret@one:5432/db0"
partitions = "0-2"

[[shards]]
name = "db1"
dsn = "postgresql://app:secret@two:5432/db1"
partitions = "3-5"

[errors]
{errors}
"""
SINK = """\
[sink]
table = "public.subscriptions"
primary_key = ["id"]

[sink.columns]
id = "id"
app_id = "app_id"
session_count = { from = "session_count", merge = "add" }
"""
SIX = KafkaFacts({"sessions": 6})
LEDGER = LedgerFacts(VERSION, ())


class ConfigFactory(Protocol):
    """``configured(key='"app_id"')``: the configuration above with parts of it changed."""

    def __call__(self, **parts: str) -> Config: ...


@pytest.fixture
def configured(tmp_path: Path) -> ConfigFactory:
    def make(**parts: str) -> Config:
        given = {
            "pipeline": "",
            "topics": '["sessions"]',
            "key": '"id"',
            "sink": SINK,
            "errors": "",
        }
        path = tmp_path / "sessions.toml"
        path.write_text(CONFIG.format(**{**given, **parts}))
        return load(path)

    return make


def column(name: str, type: str, **changes: Any) -> Column:
    base = {"bigint": "int8", "integer": "int4"}.get(type, type)
    made = Column(name, type, base, "N", not_null=False, has_default=False, generated=False)
    return attrs.evolve(made, **changes)


def subscriptions(**changes: Column) -> Table:
    columns = {
        "id": column("id", "bigint", not_null=True),
        "app_id": column("app_id", "text"),
        "session_count": column("session_count", "bigint"),
    }
    return Table("public.subscriptions", {**columns, **changes}, (frozenset({"id"}),))


def facts(shard: ShardConfig, **changes: Any) -> ShardFacts:
    """A shard on which everything is as it must be."""
    good = ShardFacts(
        shard, version=180001, connections=97, in_use=3, role="app", database=shard.name,
        may_create=True, ledger=LEDGER, table=subscriptions(),
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def good_shards(config: Config) -> list[ShardFacts]:
    return [facts(shard) for shard in config.shards]


def mistakes(config: Config, kafka: KafkaFacts, shards: list[ShardFacts]) -> list[tuple[str, str]]:
    return [(mistake.key, mistake.message) for mistake in rules.mistakes(config, kafka, shards)]


def warnings(config: Config, kafka: KafkaFacts, shards: list[ShardFacts]) -> list[tuple[str, str]]:
    return [(warning.key, warning.message) for warning in advice.warnings(config, kafka, shards)]


def test_nothing_is_found_where_all_is_well(configured: ConfigFactory) -> None:
    config = configured()
    assert mistakes(config, SIX, good_shards(config)) == []
    assert warnings(config, SIX, good_shards(config)) == []


def test_every_mistake_is_found_at_once(configured: ConfigFactory) -> None:
    config = configured(errors='dead_letter_topic = "sessions.dlq"')
    kafka = KafkaFacts({"sessions": 8, "sessions.dlq": ABSENT})
    shards = [
        facts(config.shards[0], problem="nothing listens there"),
        facts(config.shards[1], table=None),
    ]
    assert mistakes(config, kafka, shards) == [
        (
            "shards",
            'topic "sessions" has 8 partitions, and no shard covers 6-7: '
            "add to the partitions of a shard",
        ),
        ("errors.dead_letter_topic", 'topic "sessions.dlq" does not exist: create it'),
        ("shards[db0].dsn", "one:5432 can't be used: nothing listens there"),
        ("shards[db1]", "table public.subscriptions does not exist ([sink] table)"),
    ]


def test_an_unreachable_kafka_does_not_hide_what_postgres_says(configured: ConfigFactory) -> None:
    config = configured(errors='dead_letter_topic = "sessions.dlq"')
    shards = [facts(shard, table=None) for shard in config.shards]
    found = mistakes(config, KafkaFacts({}, "Kafka at 127.0.0.1:9092 can't be used"), shards)
    assert found == [
        ("kafka.bootstrap_servers", "Kafka at 127.0.0.1:9092 can't be used"),
        ("sink", "table public.subscriptions does not exist ([sink] table)"),
    ]


def test_a_missing_topic_is_a_mistake(configured: ConfigFactory) -> None:
    config = configured()
    found = mistakes(config, KafkaFacts({"sessions": ABSENT}), good_shards(config))
    assert found == [("kafka.topics", 'topic "sessions" does not exist: create it')]


def test_a_mistake_on_one_shard_names_it(configured: ConfigFactory) -> None:
    config = configured()
    text = subscriptions(session_count=column("session_count", "text"))
    shards = [facts(config.shards[0]), facts(config.shards[1], table=text)]
    ((key, message),) = mistakes(config, SIX, shards)
    assert key == "shards[db1]"
    assert "session_count is of type text" in message
    assert 'merge = "add"' in message


def test_no_password_is_shown(configured: ConfigFactory) -> None:
    config = configured()
    shards = [facts(shard, problem="away") for shard in config.shards]
    shown = str(mistakes(config, SIX, shards)) + plan(config, findings(config))
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"standby": True}, "is a standby"),
        ({"version": 130009}, "PostgreSQL 15 or later is needed"),
        ({"ledger": LedgerFacts(None, ()), "may_create": False}, "pipeline check --ddl"),
        (
            {"ledger": LedgerFacts(VERSION, (), ("pipeline.refused",)), "may_create": False},
            "pipeline check --ddl",
        ),
        ({"ledger": LedgerFacts(1, ("pipeline.applied",))}, "may not use pipeline.applied"),
        ({"ledger": LedgerFacts(None, (), (), ("pipeline.applied",))}, "is not the ledger's"),
        ({"ledger": LedgerFacts(VERSION + 1, ())}, "made by a later pipeline"),
        ({"missing": ("update",)}, "grant update on public.subscriptions to app"),
        ({"table": None, "table_problem": "permission denied"}, "permission denied"),
    ],
)
def test_what_a_shard_does_not_allow_is_a_mistake(
    configured: ConfigFactory, changes: dict[str, Any], part: str
) -> None:
    config = configured()
    shards = [facts(config.shards[0], **changes), facts(config.shards[1])]
    ((key, message),) = mistakes(config, SIX, shards)
    assert key.startswith("shards[db0]")
    assert part in message


def test_at_least_once_needs_no_ledger(configured: ConfigFactory) -> None:
    config = configured(pipeline='delivery = "at-least-once"')
    nothing: dict[str, Any] = {
        "ledger": LedgerFacts(None, ()),
        "may_create": False,
    }
    shards = [facts(shard, **nothing) for shard in config.shards]
    assert mistakes(config, SIX, shards) == []


@pytest.mark.parametrize("handler", ["no.such.module:apply", "json:nothing", "json:loads"])
def test_a_handler_that_cannot_be_loaded_is_a_mistake(
    configured: ConfigFactory, handler: str
) -> None:
    config = configured(sink=f'[sink]\nhandler = "{handler}"')
    ((key, message),) = mistakes(config, SIX, good_shards(config))
    assert key == "sink.handler"
    assert handler in message


def test_order_is_warned_of_where_the_key_does_not_fix_the_row(configured: ConfigFactory) -> None:
    config = configured(key='"session"')
    ((key, message),) = warnings(config, SIX, good_shards(config))
    assert key == "records.key"
    assert "out of order" in message


@pytest.mark.parametrize("key", ['"id"', '["id", "app_id"]', '["@key", "id"]'])
def test_a_key_that_fixes_the_row_is_not_warned_of(configured: ConfigFactory, key: str) -> None:
    config = configured(key=key)
    assert warnings(config, SIX, good_shards(config)) == []


def test_a_coarser_key_keeps_rows_in_order(configured: ConfigFactory) -> None:
    sink = SINK.replace('["id"]', '["app_id", "id"]')
    config = configured(key='"app_id"', sink=sink)
    assert warnings(config, SIX, good_shards(config)) == []


def test_different_partition_counts_are_warned_of(configured: ConfigFactory) -> None:
    config = configured(topics='["sessions", "orders"]')
    kafka = KafkaFacts({"sessions": 6, "orders": 4})
    ((key, message),) = warnings(config, kafka, good_shards(config))
    assert key == "kafka.topics"
    assert "sessions has 6, orders has 4" in message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cleanup.policy": "compact,delete"}, "sessions is compacted"),
        ({"cleanup.policy": "delete", "retention.ms": "3600000"}, "keeps records for 1h 0m"),
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, None),
        ({}, None),
    ],
    ids=["compacted", "too-short", "for-ever", "not-known"],
)
def test_a_topic_that_does_not_keep_what_waits_is_warned_of(
    configured: ConfigFactory, settings: dict[str, str], said: str | None
) -> None:
    config = configured(errors='retry.23503 = "2h"')
    kafka = attrs.evolve(SIX, settings={"sessions": settings})
    found = warnings(config, kafka, good_shards(config))
    assert [key for key, _ in found] == (["errors.retry"] if said else [])
    assert all(said is not None and said in message for _, message in found)


def test_partitions_that_no_topic_has_are_warned_of(configured: ConfigFactory) -> None:
    config = configured()
    ((key, message),) = warnings(config, KafkaFacts({"sessions": 4}), good_shards(config))
    assert (key, message) == ("shards[db1].partitions", "no topic has partitions 4-5 yet")


def test_too_few_connections_are_warned_of(configured: ConfigFactory) -> None:
    config = configured()
    shards = [facts(config.shards[0], connections=10, in_use=5), facts(config.shards[1])]
    ((key, message),) = warnings(config, SIX, shards)
    assert key == "shards[db0].connections"
    assert "enough for 1 instance (" in message


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"},
            "the password and the",
        ),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256"}, "records"),
    ],
)
def test_passwords_in_the_clear_are_warned_of(
    configured: ConfigFactory, options: dict[str, str], told: str
) -> None:
    config = configured()
    config = attrs.evolve(config, kafka=attrs.evolve(config.kafka, options=options))
    ((key, message),) = warnings(config, SIX, good_shards(config))
    assert key == "kafka.security_protocol"
    assert message.startswith(told)
    encrypted = {**options, "security_protocol": "SASL_SSL"}
    config = attrs.evolve(config, kafka=attrs.evolve(config.kafka, options=encrypted))
    assert warnings(config, SIX, good_shards(config)) == []


def test_a_table_that_a_crash_empties_is_warned_of(configured: ConfigFactory) -> None:
    config = configured()
    seen, *others = good_shards(config)
    unlogged = attrs.evolve(seen, table=attrs.evolve(subscriptions(), unlogged=True))
    ((key, message),) = warnings(config, SIX, [unlogged, *others])
    assert key == "sink.table"
    assert "is unlogged" in message


def test_a_view_is_warned_of_whose_unique_index_cannot_be_seen(configured: ConfigFactory) -> None:
    config = configured()
    seen, *others = good_shards(config)
    assert seen.table is not None
    view = attrs.evolve(seen, table=attrs.evolve(seen.table, kind="v", unique=()))
    ((key, message),) = warnings(config, SIX, [view, *others])
    assert key == "sink.table"
    assert "the table beneath must have one" in message


def test_shards_on_one_server_share_its_connections(configured: ConfigFactory) -> None:
    config = configured()
    same = [attrs.evolve(shard, dsn="postgresql://one:5432/db") for shard in config.shards]
    assert room([facts(shard, connections=50, in_use=2) for shard in same]) == {"one:5432": 8}


@pytest.mark.parametrize("commits", ["off", "local", "remote_write"])
@pytest.mark.parametrize("pipeline", ["", 'delivery = "at-least-once"'])
def test_commits_that_may_be_taken_back_are_warned_of(
    configured: ConfigFactory, commits: SynchronousCommit, pipeline: str
) -> None:
    config = configured(pipeline=pipeline)
    shards = (attrs.evolve(config.shards[0], synchronous_commit=commits), *config.shards[1:])
    config = attrs.evolve(config, shards=shards)
    ((key, message),) = warnings(config, SIX, good_shards(config))
    assert key == f"shards[{shards[0].name}].synchronous_commit"
    assert message.startswith(f'"{commits}": ')
    assert ("applied again from Kafka" in message) is (not pipeline)
    assert ("the records are lost" in message) is bool(pipeline)


def test_behind_a_pooler_the_servers_connections_are_not_counted(
    configured: ConfigFactory,
) -> None:
    config = configured()
    shards = [facts(shard, connections=1, pooled=True) for shard in config.shards]
    assert warnings(config, SIX, shards) == []


def test_a_role_that_may_not_write_is_a_mistake(configured: ConfigFactory) -> None:
    config = configured()
    shards = [facts(config.shards[0], read_only=True), *good_shards(config)[1:]]
    ((key, message),) = mistakes(config, SIX, shards)
    assert key == f"shards[{config.shards[0].name}].dsn"
    assert "takes no writes: default_transaction_read_only is on" in message


def test_types_that_differ_between_shards_are_warned_of(configured: ConfigFactory) -> None:
    config = configured()
    narrow = subscriptions(session_count=column("session_count", "integer"))
    shards = [facts(config.shards[0]), facts(config.shards[1], table=narrow)]
    ((key, message),) = warnings(config, SIX, shards)
    assert key == "sink.columns.session_count"
    assert "bigint on db0, integer on db1" in message


def test_checksums_in_pure_python_are_warned_of(
    configured: ConfigFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice, "crc32c_c", None)
    config = configured()
    ((_, message),) = warnings(config, SIX, good_shards(config))
    assert "pip install crc32c" in message


def findings(config: Config) -> Findings:
    return Findings(SIX, tuple(good_shards(config)), (), ())


def test_the_plan_shows_where_partitions_go(configured: ConfigFactory) -> None:
    config = configured()
    lines = plan(config, findings(config)).splitlines()
    assert "  sessions  0-2         db0    one:5432/db0  18.1" in lines
    assert "  sessions  3-5         db1    two:5432/db1  18.1" in lines
    assert "  session_count  bigint  session_count  add" in lines
    assert "  db0    up to 3       97             3       31 instances" in lines


def test_the_plan_warns_that_at_least_once_counts_twice(configured: ConfigFactory) -> None:
    config = configured(pipeline='delivery = "at-least-once"')
    assert "count twice" in plan(config, findings(config))


def test_the_plan_fits_whatever_the_names(configured: ConfigFactory) -> None:
    long = "a_name_of_sixty_three_characters_which_is_as_long_as_they_can_be"
    sink = SINK.replace('app_id = "app_id"', f'{long} = "{long}.{long}"')
    config = configured(sink=sink, topics=f'["{long}"]')
    wide = subscriptions(**{long: column(long, "timestamp with time zone")})
    shards = tuple(facts(shard, table=wide, database=long) for shard in config.shards)
    found = Findings(KafkaFacts({long: 6}), shards, (), ())
    assert max(map(len, plan(config, found).splitlines())) <= WIDTH


def test_a_sum_that_is_rounded_at_each_step_is_a_warning(configured: ConfigFactory) -> None:
    config = configured()
    table = subscriptions(session_count=column("session_count", "double precision", base="float8"))
    shards = [attrs.evolve(shard, table=table) for shard in good_shards(config)]
    (found,) = [each for each in warnings(config, SIX, shards) if "sums are rounded" in each[1]]
    assert found[0] == "sink.columns.session_count"
