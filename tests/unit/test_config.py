"""The configuration: what loads, and that each kind of mistake is told in words that help."""

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
    hide_password,
)
from pipeline.config.reading import ConfigError, Mistake

DSN = "postgresql://app:s3cr3t@127.0.0.1:5432/app"

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

PIPELINE = '[pipeline]\nname = "p"\n'
KAFKA = '[kafka]\nbootstrap_servers = "k:9092"\ntopics = "t"\n'
SINK = '[sink]\ntable = "t"\nprimary_key = "id"\n'
COLUMNS = '[sink.columns]\nid = "@key"\n'
SHARD = f'[[shards]]\nname = "db0"\ndsn = "{DSN}"\n'


def document(
    pipeline: str = "",
    kafka: str = "",
    sink: str = "",
    columns: str = "",
    shard: str = "",
    more: str = "",
) -> str:
    """A document that loads, with more lines at the end of its tables."""
    parts = (PIPELINE, pipeline, KAFKA, kafka, SINK, sink, COLUMNS, columns, SHARD, shard, more)
    return "\n".join(parts)


Loader = Callable[[str], Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    def load_text(text: str) -> Config:
        path = tmp_path / "pipeline.toml"
        path.write_text(text)
        return load(path)

    return load_text


Mistakes = Callable[[str], list[tuple[str, str]]]


@pytest.fixture
def mistakes(loaded: Loader) -> Mistakes:
    def mistakes_of(text: str) -> list[tuple[str, str]]:
        with pytest.raises(ConfigError) as caught:
            loaded(text)
        return [(mistake.key, mistake.message) for mistake in caught.value.mistakes]

    return mistakes_of


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


def test_several_mistakes_come_at_once(mistakes: Mistakes) -> None:
    text = """
    [pipeline]
    nmae = "p"
    delivery = "exactly_once"
    [kafka]
    topics = [1]
    enable_auto_commit = true
    [sink]
    table = "t"
    primary_key = "ide"
    columns = { id = "@key", seen = { from = "a..b", merge = "lst" } }
    [[shards]]
    name = "db0"
    dsn = "${NO_SUCH_DSN}"
    [limits]
    max_batch = 0
    """
    assert [key for key, _ in mistakes(text)] == [
        "pipeline.nmae",
        "pipeline.delivery",
        "kafka.enable_auto_commit",
        "kafka.bootstrap_servers",
        "kafka.topics",
        "sink.columns.seen.from",
        "sink.columns.seen.merge",
        "shards[db0].dsn",
        "limits.max_batch",
        "sink.primary_key",
    ]


def test_an_error_prints_one_line_a_mistake() -> None:
    error = ConfigError("p.toml", [Mistake("", "can't be\nread"), Mistake("a.b", "missing")])
    assert str(error) == "p.toml: can't be read\np.toml: a.b: missing"


def test_a_choice_suggests_the_nearest(mistakes: Mistakes) -> None:
    assert mistakes(document(columns='last_seen = { from = "s", merge = "lst" }')) == [
        (
            "sink.columns.last_seen.merge",
            "expected one of last, first, add, max, min, coalesce, jsonb, "
            'not "lst" (did you mean "last"?)',
        )
    ]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        pytest.param(
            document(more="[limts]"), "limts", 'unknown key (did you mean "limits"?)', id="table"
        ),
        pytest.param(
            document(pipeline='delivry = "x"'),
            "pipeline.delivry",
            'unknown key (did you mean "delivery"?)',
            id="key",
        ),
        pytest.param(document(pipeline="zzz = 1"), "pipeline.zzz", "unknown key", id="no idea"),
        pytest.param(
            document(kafka='sasl_mecanism = "PLAIN"'),
            "kafka.sasl_mecanism",
            'unknown key (did you mean "sasl_mechanism"?)',
            id="kafka option",
        ),
        pytest.param(
            document(columns='seen = { form = "s" }'),
            "sink.columns.seen.form",
            'unknown key (did you mean "from"?)',
            id="misspelt, so not missing too",
        ),
        pytest.param(
            document(columns='seen = { from = "s", name = "x" }'),
            "sink.columns.seen.name",
            "unknown key",
            id="a column's name is its key",
        ),
        pytest.param(
            document().replace("[kafka]", "[kafak]"),
            "kafak",
            'unknown key (did you mean "kafka"?)',
            id="misspelt table",
        ),
        pytest.param(
            document().replace("[[shards]]", "[[shard]]"),
            "shard",
            'unknown key (did you mean "shards"?)',
            id="misspelt shards",
        ),
        pytest.param(
            document(pipeline='"a\\nb c" = 1'), 'pipeline."a\\nb c"', "unknown key", id="quoted"
        ),
    ],
)
def test_unknown_keys(mistakes: Mistakes, text: str, key: str, message: str) -> None:
    assert mistakes(text) == [(key, message)]


COUNT = "expected a whole number above 0, not "


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (document(shard='connections = "8"'), "shards[db0].connections", COUNT + '"8"'),
        (document(shard="connections = true"), "shards[db0].connections", COUNT + "true"),
        (document(shard="connections = 0"), "shards[db0].connections", COUNT + "0"),
        (document(more="[limits]\nmax_batch = -1"), "limits.max_batch", COUNT + "-1"),
        (document(more="[limits]\nmax_batch = 1.5"), "limits.max_batch", COUNT + "1.5"),
        (
            document(more="[limits]\nmax_batch = 2020-01-01"),
            "limits.max_batch",
            COUNT + "a date or time",
        ),
        (document(kafka="group_id = 3"), "kafka.group_id", "expected a string, not 3"),
        (document(kafka='group_id = ""'), "kafka.group_id", "expected a string that is not empty"),
        (
            document(more='[limits]\nlock_timeout = "10h"'),
            "limits.lock_timeout",
            'expected a duration above 0, such as "10s", "500ms" or "2m", not "10h"',
        ),
        (
            document(more="[limits]\nlock_timeout = 0"),
            "limits.lock_timeout",
            'expected a duration above 0, such as "10s", "500ms" or "2m", not 0',
        ),
        (
            document(columns="seen = 3"),
            "sink.columns.seen",
            'expected a path, or a table with "from" and "merge", not 3',
        ),
        (
            document(columns="seen = {}"),
            "sink.columns.seen.from",
            'missing: expected a path such as "a.b", "@key" or "@header:NAME"',
        ),
        (
            document(more='[records]\nformat = "avro"'),
            "records.format",
            'expected "json", not "avro"',
        ),
        (document(more="[[limits]]"), "limits", "expected a table, not a list"),
        (
            document(more="[http]"),
            "http.listen",
            'missing: expected an address and a port such as "127.0.0.1:9187"',
        ),
    ],
)
def test_types(mistakes: Mistakes, text: str, key: str, message: str) -> None:
    assert mistakes(text) == [(key, message)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[]", "expected at least one string, and none that is empty"),
        ('["a", ""]', "expected at least one string, and none that is empty"),
        ('["a", 3]', "expected a string or a list of strings, not 3"),
        ('["a", "b", "a"]', '"a" is there twice'),
    ],
)
def test_lists_of_strings(mistakes: Mistakes, value: str, message: str) -> None:
    text = document().replace('topics = "t"', f"topics = {value}")
    assert mistakes(text) == [("kafka.topics", message)]


def test_servers_may_stand_in_one_string(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERS", "a:9092, b:9092")
    assert loaded(document().replace("k:9092", "${BROKERS}")).kafka.bootstrap_servers == (
        "a:9092",
        "b:9092",
    )


def test_paths_are_validated(mistakes: Mistakes) -> None:
    found = mistakes(document(columns='seen = "@nope"', more='[records]\nkey = ["a", "b..c"]'))
    assert [key for key, _ in found] == ["records.key", "sink.columns.seen"]
    assert all("is no path" in message for _, message in found)


def test_the_environment_fills_in(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "a${HOME}b")
    monkeypatch.setenv("TOPIC", "sessions")
    text = document(kafka='sasl_plain_password = "<${PASSWORD}>"')
    config = loaded(text.replace('topics = "t"', 'topics = ["${TOPIC}", "x.${TOPIC}"]'))
    assert config.kafka.options["sasl_plain_password"] == "<a${HOME}b>"
    assert config.kafka.topics == ("sessions", "x.sessions")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${NOT_SET_1}", "the environment variable NOT_SET_1 is not set"),
        (
            "${NOT_SET_1}${NOT_SET_2}${NOT_SET_1}",
            "the environment variables NOT_SET_1, NOT_SET_2 are not set",
        ),
    ],
)
def test_missing_variables(mistakes: Mistakes, value: str, message: str) -> None:
    assert mistakes(document(kafka=f'group_id = "{value}"')) == [("kafka.group_id", message)]


def test_kafka_options_are_passed_on(loaded: Loader) -> None:
    lines = 'security_protocol = "SSL"\nmax_poll_records = 5000\nssl_cafile = "ca.pem"'
    assert dict(loaded(document(kafka=lines)).kafka.options) == {
        "security_protocol": "SSL",
        "max_poll_records": 5000,
        "ssl_cafile": "ca.pem",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('client_id = "x"', "the pipeline sets this itself (it is pipeline.name)"),
        (
            "enable_auto_commit = false",
            "the pipeline sets this itself (what it commits is what has been applied)",
        ),
        ('selector = "x"', "takes a Python object, which a file can't hold"),
        ('max_poll_records = "5"', "expected a whole number, not a string"),
        ("max_poll_records = true", "expected a whole number, not a boolean"),
        ("check_crcs = 1", "expected true or false, not a number"),
        (
            "sasl_plain_password = {}",
            "expected a string, a number, a list, true or false, not a table",
        ),
        ("options = {}", "unknown key (did you mean"),
    ],
)
def test_kafka_options_that_are_mistakes(mistakes: Mistakes, line: str, message: str) -> None:
    [(key, found)] = mistakes(document(kafka=line))
    assert key == "kafka." + line.split(" ")[0]
    assert found.startswith(message)


def test_syntax_errors_have_a_place(mistakes: Mistakes) -> None:
    [(key, message)] = mistakes("[pipeline]\nname = = 3\n")
    assert (key, message) == ("line 2, column 8", "not valid TOML: Invalid value")
    [(key, message)] = mistakes('[pipeline]\nname = "p')
    assert key == "line 2, column 10"
    assert message.startswith("not valid TOML: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "no.toml"
    with pytest.raises(ConfigError) as caught:
        load(missing)
    assert str(caught.value) == f"{missing}: can't be read: No such file or directory"
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(str(tmp_path))
    latin = tmp_path / "latin.toml"
    latin.write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8: the byte at position 8"):
        load(latin)


def sink(lines: str, more: str = "") -> str:
    return "\n".join((PIPELINE, KAFKA, f"[sink]\n{lines}\n", SHARD, more))


HANDLER = 'handler = "shop.orders:apply"'


def test_a_handler_takes_the_place_of_a_table(loaded: Loader) -> None:
    config = loaded(sink(f'{HANDLER}\nscope = "batch"'))
    assert config.sink == SinkConfig(handler="shop.orders:apply", scope="batch")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", [("sink", "expected either table and [sink.columns], or handler")]),
        (
            'table = "t"\nprimary_key = "id"',
            [("sink.columns", 'missing: expected at least one column = "path in the value"')],
        ),
        (
            'primary_key = "id"\ncolumns = { id = "id" }',
            [("sink.table", "missing: expected the name of the table that is written to")],
        ),
        (
            f'{HANDLER}\ntable = "t"\ntombstone = "ignore"',
            [
                ("sink.table", "has no use beside sink.handler: leave one out"),
                ("sink.tombstone", "has no use beside sink.handler: leave one out"),
            ],
        ),
        (
            'scope = "key"\ntable = "t"\nprimary_key = "id"\ncolumns = { id = "id" }',
            [("sink.scope", "has no use without sink.handler: leave it out")],
        ),
        *(
            (
                f'handler = "{handler}"',
                [("sink.handler", f'expected "package.module:function", not "{handler}"')],
            )
            for handler in ("shop.orders", "shop:", ":apply", "shop..a:apply", "a b:c", "a:b.c")
        ),
        (
            'table = "t"\ncolumns = { id = "id" }',
            [("sink.primary_key", 'missing: mode "upsert" needs it')],
        ),
        (
            'table = "t"\nmode = "insert"\ntombstone = "delete"\ncolumns = { id = "@key" }',
            [("sink.primary_key", 'missing: tombstone "delete" needs it')],
        ),
        (
            'table = "t"\nprimary_key = ["idd"]\ncolumns = { id = "id" }',
            [("sink.primary_key", '"idd" is not in [sink.columns] (did you mean "id"?)')],
        ),
        (
            'table = "t"\nprimary_key = "n"\ncolumns = { n = { from = "n", merge = "add" } }',
            [
                (
                    "sink.columns.n.merge",
                    '"add" can\'t be: a primary key has one value, "last"',
                )
            ],
        ),
        (
            'table = "t"\nmode = "insert"\ncolumns = { n = { from = "n", merge = "add" } }',
            [("sink.columns.n.merge", '"add" can\'t be: mode "insert" merges nothing')],
        ),
    ],
)
def test_sinks_that_are_mistakes(
    mistakes: Mistakes, lines: str, expected: list[tuple[str, str]]
) -> None:
    assert mistakes(sink(lines)) == expected


def test_an_insert_needs_no_primary_key(loaded: Loader) -> None:
    assert loaded(sink('table = "t"\nmode = "insert"\ncolumns = { a = "a" }')).sink.mode == "insert"


@pytest.mark.parametrize("source", ["@key", "@key.id", "@header:id"])
def test_a_delete_finds_its_row_without_a_value(loaded: Loader, source: str) -> None:
    columns = (
        f'tombstone = "delete"\ntable = "t"\nprimary_key = "id"\ncolumns = {{ id = "{source}" }}'
    )
    assert loaded(sink(columns)).sink.tombstone == "delete"


@pytest.mark.parametrize("source", ["id", "@offset"])
def test_a_delete_that_cannot_find_its_row(mistakes: Mistakes, source: str) -> None:
    columns = (
        f'tombstone = "delete"\ntable = "t"\nprimary_key = "id"\ncolumns = {{ id = "{source}" }}'
    )
    [(key, message)] = mistakes(sink(columns))
    assert key == "sink.columns.id"
    assert "needs one of @key, @key.PATH, @header:NAME" in message


def test_a_delete_that_would_leave_its_order(mistakes: Mistakes) -> None:
    text = document(sink='tombstone = "delete"', more='[records]\nkey = ["@key", "user.id"]')
    [(key, message)] = mistakes(text)
    assert key == "records.key"
    assert message.startswith('"user.id" does not keep a record without a value in order')


def shards(*lines: str) -> str:
    head = "\n".join((PIPELINE, KAFKA, SINK, COLUMNS))
    return head + "".join(f'\n[[shards]]\ndsn = "{DSN}"\n{line}\n' for line in lines)


def test_each_partition_has_its_shard(loaded: Loader) -> None:
    config = loaded(shards('name = "a"\npartitions = "0,3-5"', 'name = "b"\npartitions = [1, 2]'))
    assert [config.shard_for(n).name for n in range(6)] == ["a", "b", "b", "a", "a", "a"]
    with pytest.raises(LookupError, match=r"no shard covers partition 6: .* one of a, b"):
        config.shard_for(6)


def test_the_only_shard_has_all_partitions(loaded: Loader) -> None:
    assert loaded(document()).shard_for(123).name == "db0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            shards(),
            [("shards", "missing: expected at least one [[shards]] with a name and a dsn")],
        ),
        (
            document().replace("[[shards]]", "[shards]"),
            [("shards", "expected [[shards]], a list of tables, not a table")],
        ),
        (shards("partitions = 0"), [("shards[0].name", "missing: expected a string")]),
        (
            shards('name = "a"\npartitions = 0', 'name = "a"\npartitions = 1'),
            [("shards", '2 shards have the name "a"')],
        ),
        (
            shards('name = "a"', 'name = "b"\npartitions = 1'),
            [
                (
                    "shards[a].partitions",
                    "missing: only a shard that is the only one may leave them out",
                )
            ],
        ),
        (
            shards('name = "a"\npartitions = "0-3"', 'name = "b"\npartitions = "3-4"'),
            [
                (
                    "shards[b].partitions",
                    "partition 3 can have one shard only, not both a and b",
                )
            ],
        ),
        (
            shards('name = "a"\npartitions = "0-9"', 'name = "b"\npartitions = "2-7"'),
            [
                (
                    "shards[b].partitions",
                    "partitions 2, 3, 4, 5, 6, … can have one shard only, not both a and b",
                )
            ],
        ),
    ],
)
def test_shards_that_are_mistakes(
    mistakes: Mistakes, text: str, expected: list[tuple[str, str]]
) -> None:
    assert mistakes(text) == expected


PARTITIONS = 'expected partition numbers such as "0-2", "0,3-5", [0, 1, 2] or 4, not '


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"a"', PARTITIONS + '"a"'),
        ('""', PARTITIONS + '""'),
        ('"0,,1"', PARTITIONS + '"0,,1"'),
        ('"-1"', PARTITIONS + '"-1"'),
        ("-1", PARTITIONS + "-1"),
        ("true", PARTITIONS + "true"),
        ("[]", PARTITIONS + "a list"),
        ('["0"]', PARTITIONS + "a list"),
        ('"5-3"', 'the range "5-3" is backwards: expected "3-5"'),
        ('"0-999999999"', "partition 999999999 is above 99999"),
    ],
)
def test_partitions_that_are_mistakes(mistakes: Mistakes, value: str, message: str) -> None:
    assert mistakes(document(shard=f"partitions = {value}")) == [
        ("shards[db0].partitions", message)
    ]


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
    "dsn",
    [
        "mysql://app:s3cr3t@h/d",
        "host=h password=s3cr3t",
        "postgresql:s3cr3t",
        "postgresql://app:s3/cr3t@h:x/d",
        "postgresql://app:s3cr3t@[h/d",
        "postgresql://h:s3cr3t/d",
    ],
)
def test_a_bad_dsn_is_not_shown(mistakes: Mistakes, dsn: str) -> None:
    [(key, message)] = mistakes(document().replace(DSN, dsn))
    assert key == "shards[db0].dsn"
    assert message.startswith("expected a URL such as postgresql://USER@HOST:5432/DATABASE")
    assert "s3" not in message


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


@pytest.mark.parametrize("listen", ["9187", ":9187", "h:", "h:65536", "::1:80", "http://h:80"])
def test_listen_mistakes(mistakes: Mistakes, listen: str) -> None:
    message = f'expected an address and a port such as "127.0.0.1:9187", not "{listen}"'
    assert mistakes(document(more=f'[http]\nlisten = "{listen}"')) == [("http.listen", message)]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (
            document(more='[limits]\ndrain_deadline = "5m"'),
            "limits.drain_deadline",
            "300s is too long: expected less than kafka.max_poll_interval_ms (300s)",
        ),
        (
            document(kafka="max_poll_interval_ms = 8000"),
            "limits.drain_deadline",
            "10s is too long: expected less than kafka.max_poll_interval_ms (8s)",
        ),
        (
            document(more="[limits]\nmax_buffered = 10\nmax_batch = 11"),
            "limits.max_batch",
            "11 is too many: expected at most limits.max_buffered (10)",
        ),
        (
            document(more="[errors]\nbackoff_initial = 11"),
            "errors.backoff_initial",
            "11s is too long: expected at most errors.backoff_max (10s)",
        ),
        (
            document(more='[errors]\ndead_letter_topic = "t"'),
            "errors.dead_letter_topic",
            '"t" is one of kafka.topics: dead letters would be read again',
        ),
    ],
)
def test_settings_that_do_not_go_together(
    mistakes: Mistakes, text: str, key: str, message: str
) -> None:
    assert mistakes(text) == [(key, message)]


@pytest.mark.parametrize(
    "text",
    [
        document(more='[limits]\nmax_buffered = "x"\nmax_batch = 30000'),
        document(kafka='max_poll_interval_ms = "x"', more="[limits]\ndrain_deadline = 900"),
        document(shard='partitions = "x"', more=SHARD.replace("db0", "db1") + "partitions = 1"),
        document(sink='tombstone = "delete"', more='[records]\nkey = "a..b"'),
        document().replace("topics", "topcis"),
        "pipeline = 3\n" + document().replace(PIPELINE, ""),
        "kafka = 3\n" + document().replace(KAFKA, ""),
        "sink = 3\n" + document().replace(SINK, "").replace(COLUMNS, ""),
        document().replace("[sink.columns]", "[sink.colums]"),
    ],
)
def test_one_slip_is_one_mistake(mistakes: Mistakes, text: str) -> None:
    assert len(mistakes(text)) == 1


TOML_VALUES = ["3", "-1.5", "nan", "true", '"x"', '""', "[]", "[[]]", '["x"]', "{}", "{ a = 1 }",
               "2020-01-01", "07:00:00", '"${}"', '"${NOT_SET_1}"']  # fmt: skip
KEYS = {
    "": ["pipeline", "kafka", "records", "sink", "shards", "limits", "errors", "http"],
    "[pipeline]": ["name", "delivery", "owner"],
    "[kafka]": ["bootstrap_servers", "topics", "group_id", "max_poll_interval_ms", "api_version"],
    "[records]": ["format", "key", "tenant"],
    "[sink]": ["table", "mode", "primary_key", "columns", "tombstone", "handler", "scope"],
    "[[shards]]": ["name", "dsn", "partitions", "connections"],
    "[limits]": ["max_buffered", "max_batch", "drain_deadline", "lock_timeout"],
    "[errors]": ["dead_letter_topic", "backoff_initial", "backoff_max"],
    "[http]": ["listen"],
}


def tables() -> st.SearchStrategy[str]:
    """Documents in which every key holds whatever TOML can hold, or is absent."""

    def table(header: str) -> st.SearchStrategy[str]:
        values = st.fixed_dictionaries(
            {}, optional={key: st.sampled_from(TOML_VALUES) for key in KEYS[header]}
        )
        return values.map(lambda d: "\n".join([header, *(f"{k} = {v}" for k, v in d.items())]))

    whole = st.tuples(*(table(header) for header in KEYS if header)).map("\n".join)
    return st.one_of(whole, table(""))


@given(tables())
def test_nothing_but_a_config_error_is_raised(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert len(str(caught.value).split("\n")) == len(caught.value.mistakes)
