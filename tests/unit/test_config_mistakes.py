"""Mistakes in a configuration: each is told once, where it is, in words that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from tests.support.configurations import document, shards, sink

UNKNOWN = "unknown key"
COUNT = "expected a whole number above 0, not "
DURATION = 'expected a duration above 0, such as "10s", "500ms" or "2m", not '
STRINGS = "expected at least one string, and none that is empty"
ITSELF = "the pipeline sets this itself "
PARTITIONS = 'expected partition numbers such as "0-2", "0,3-5", [0, 1, 2] or 4, not '
LISTEN = 'expected an address and a port such as "127.0.0.1:9187", not '
USELESS = "has no effect on a primary key, which never changes: leave it out"
NO_PATH = (
    "is not a valid path: expected a path into the value (a.b), @key, @key.a.b, @header:NAME, "
    "@timestamp, @offset, @partition or @topic"
)
NO_ROW = (
    "does not say which row a record without a value means: "
    'tombstone "delete" needs one of @key, @key.PATH, @header:NAME'
)
NO_ORDER = (
    "does not keep a record without a value in order: "
    'tombstone "delete" needs one of @key, @key.PATH, @header:NAME'
)


def limits(line: str) -> str:
    return document(more=f"[limits]\n{line}")


def topics(value: str) -> str:
    return document().replace('topics = "t"', f"topics = {value}")


def deletes(source: str) -> str:
    lines = 'tombstone = "delete"\ntable = "t"\nprimary_key = "id"\n'
    return sink(f'{lines}columns = {{ id = "{source}" }}')


MISTAKES = [
    # Unknown keys.
    (document(more="[limts]"), "limts", f'{UNKNOWN} (did you mean "limits"?)'),
    (document(pipeline='delivry = "x"'), "pipeline.delivry",
     f'{UNKNOWN} (did you mean "delivery"?)'),
    (document(pipeline="zzz = 1"), "pipeline.zzz", UNKNOWN),
    (document(pipeline='"a\\nb c" = 1'), 'pipeline."a\\nb c"', UNKNOWN),
    (document(kafka='sasl_mecanism = "PLAIN"'), "kafka.sasl_mecanism",
     f'{UNKNOWN} (did you mean "sasl_mechanism"?)'),
    (document(columns='seen = { form = "s" }'), "sink.columns.seen.form",
     f'{UNKNOWN} (did you mean "from"?)'),
    (document(columns='seen = { from = "s", name = "x" }'), "sink.columns.seen.name", UNKNOWN),
    (document().replace("[kafka]", "[kafak]"), "kafak", f'{UNKNOWN} (did you mean "kafka"?)'),
    (document().replace("[[shards]]", "[[shard]]"), "shard",
     f'{UNKNOWN} (did you mean "shards"?)'),
    # Keys in another table than theirs.
    (document(shard='statement_timeout = "1h"'), "shards[db0].statement_timeout",
     "unknown key here: it belongs to [limits]"),
    (document(more='[handler]\nfunction = "a:b"'), "handler",
     "unknown key here: it belongs to [sink]"),
    (document(more='[log]\nauto_offset_reset = "latest"'), "log.auto_offset_reset",
     "unknown key here: it belongs to [kafka]"),
    (document(more='[log]\ndsn = "x"'), "log.dsn", "unknown key here: it belongs to [[shards]]"),
    # Kinds of values.
    (document(shard='connections = "8"'), "shards[db0].connections", f'{COUNT}"8"'),
    (document(shard="connections = true"), "shards[db0].connections", f"{COUNT}true"),
    (document(shard="connections = 0"), "shards[db0].connections", f"{COUNT}0"),
    (limits("max_batch = -1"), "limits.max_batch", f"{COUNT}-1"),
    (limits("max_batch = 1.5"), "limits.max_batch", f"{COUNT}1.5"),
    (limits("max_batch = 2020-01-01"), "limits.max_batch", f"{COUNT}a date or time"),
    (limits('lock_timeout = "10w"'), "limits.lock_timeout", f'{DURATION}"10w"'),
    (limits("lock_timeout = 0"), "limits.lock_timeout", f"{DURATION}0"),
    (document(more="[[limits]]"), "limits", "expected a table, not a list"),
    (document(kafka="group_id = 3"), "kafka.group_id", "expected a string, not 3"),
    (document(kafka='group_id = ""'), "kafka.group_id", "expected a string that is not empty"),
    (document(columns="seen = 3"), "sink.columns.seen",
     'expected a path, or a table with "from" and "merge", not 3'),
    (document(columns="seen = {}"), "sink.columns.seen.from",
     'missing: expected a path such as "a.b", "@key" or "@header:NAME"'),
    (document(columns='seen = "@nope"'), "sink.columns.seen", f"'@nope' {NO_PATH}"),
    (document(columns='seen = { from = "s", merge = "lst" }'), "sink.columns.seen.merge",
     "expected one of last, first, add, max, min, coalesce, jsonb, "
     'not "lst" (did you mean "last"?)'),
    (document(more='[records]\nformat = "avro"'), "records.format",
     'expected "json", not "avro"'),
    (document(more='[records]\nkey = ["a", "b..c"]'), "records.key",
     "'b..c' is not a valid path: a step between two dots is empty"),
    (document(more="[http]"), "http.listen",
     'missing: expected an address and a port such as "127.0.0.1:9187"'),
    (topics("[]"), "kafka.topics", STRINGS),
    (topics('["a", ""]'), "kafka.topics", STRINGS),
    (topics('["a", "b!"]'), "kafka.topics", "expected a topic, or a list of them: letters, digits, "
     "'.', '_' and '-', at most 249, not \"b!\""),
    (document(more='[errors]\ndead_letter_topic = ".."'), "errors.dead_letter_topic",
     "expected a topic: letters, digits, '.', '_' and '-', at most 249, not \"..\""),
    (topics('["a", 3]'), "kafka.topics", "expected a string or a list of strings, not 3"),
    (topics('["a", "b", "a"]'), "kafka.topics", '"a" is there twice'),
    *((document(more=f'[http]\nlisten = "{value}"'), "http.listen", f'{LISTEN}"{value}"')
      for value in ("9187", ":9187", "h:", "h:65536", "::1:80", "http://h:80")),
    *((document(shard=f"partitions = {value}"), "shards[db0].partitions", PARTITIONS + shown)
      for value, shown in (('"a"', '"a"'), ('""', '""'), ('"0,,1"', '"0,,1"'), ('"-1"', '"-1"'),
                           ("-1", "-1"), ("true", "true"), ("[]", "a list"), ('["0"]', "a list"))),
    (document(shard='partitions = "5-3"'), "shards[db0].partitions",
     'the range "5-3" is backwards: expected "3-5"'),
    (document(shard='partitions = "0-999999999"'), "shards[db0].partitions",
     "partition 999999999 is above 99999"),
    # The environment.
    (document(kafka='group_id = "${NOT_SET_1}"'), "kafka.group_id",
     "the environment variable NOT_SET_1 is not set"),
    (document(kafka='group_id = "${NOT_SET_1}${NOT_SET_2}${NOT_SET_1}"'), "kafka.group_id",
     "the environment variables NOT_SET_1, NOT_SET_2 are not set"),
    # kafka-python's options.
    (document(kafka='client_id = "x"'), "kafka.client_id", f"{ITSELF}(it is pipeline.name)"),
    (document(kafka="enable_auto_commit = false"), "kafka.enable_auto_commit",
     f"{ITSELF}(what it commits is what has been applied)"),
    (document(kafka='selector = "x"'), "kafka.selector",
     "takes a Python object, which a file can't hold"),
    (document(kafka='max_poll_records = "5"'), "kafka.max_poll_records",
     "expected a whole number, not a string"),
    (document(kafka="max_poll_records = true"), "kafka.max_poll_records",
     "expected a whole number, not a boolean"),
    (document(kafka="check_crcs = 1"), "kafka.check_crcs", "expected true or false, not a number"),
    (document(kafka="sasl_plain_password = {}"), "kafka.sasl_plain_password",
     "expected a string, not a table"),
    (document(kafka="sasl_plain_password = 912345678"), "kafka.sasl_plain_password",
     "expected a string, not a number"),
    (document(kafka="options = {}"), "kafka.options", f'{UNKNOWN} (did you mean "socket_options"?)'),
    # The sink.
    (sink(""), "sink", "expected either table and [sink.columns], or handler"),
    (sink('table = "t"\nprimary_key = "id"'), "sink.columns",
     'missing: expected at least one column = "path in the value"'),
    (sink('primary_key = "id"\ncolumns = { id = "id" }'), "sink.table",
     "missing: expected the name of the table that is written to"),
    (sink('handler = "a:b"\ntable = "t"'), "sink.table",
     "has no use beside sink.handler: leave one out"),
    (sink('handler = "a:b"\ntombstone = "ignore"'), "sink.tombstone",
     "has no use beside sink.handler: leave one out"),
    (document(sink='scope = "key"'), "sink.scope",
     "has no use without sink.handler: leave it out"),
    *((sink(f'handler = "{value}"'), "sink.handler",
       f'expected "package.module:function", not "{value}"')
      for value in ("shop.orders", "shop:", ":apply", "shop..a:apply", "a b:c", "a:b.c")),
    (sink('table = "t"\ncolumns = { id = "id" }'), "sink.primary_key",
     'missing: mode "upsert" needs it'),
    (sink('table = "t"\nmode = "insert"\ntombstone = "delete"\ncolumns = { id = "@key" }'),
     "sink.primary_key", 'missing: tombstone "delete" needs it'),
    (sink('table = "t"\nprimary_key = ["idd"]\ncolumns = { id = "id" }'), "sink.primary_key",
     '"idd" is not in [sink.columns] (did you mean "id"?)'),
    (sink('table = "t"\nprimary_key = "n"\ncolumns = { n = { from = "n", merge = "add" } }'),
     "sink.columns.n.merge", f'"add" {USELESS}'),
    (sink('table = "t"\nmode = "insert"\ncolumns = { n = { from = "n", merge = "add" } }'),
     "sink.columns.n.merge", '"add" has no effect with mode "insert": leave it out'),
    (deletes("id"), "sink.columns.id", f'"id" {NO_ROW}'),
    (deletes("@offset"), "sink.columns.id", f'"@offset" {NO_ROW}'),
    (document(sink='tombstone = "delete"', more='[records]\nkey = ["@key", "user.id"]'),
     "records.key", f'"user.id" {NO_ORDER}'),
    # Shards.
    (shards(), "shards", "missing: expected at least one [[shards]] with a name and a dsn"),
    (document().replace("[[shards]]", "[shards]"), "shards",
     "expected [[shards]], a list of tables, not a table"),
    (shards("partitions = 0"), "shards[0].name", "missing: expected a string"),
    (shards('name = "a"\npartitions = 0', 'name = "a"\npartitions = 1'), "shards",
     '2 shards have the name "a"'),
    (shards('name = "a"', 'name = "b"\npartitions = 1'), "shards[a].partitions",
     "missing: only a single shard may leave them out"),
    (shards('name = "a"\npartitions = "0-3"', 'name = "b"\npartitions = "3-4"'),
     "shards[b].partitions", "partition 3 can have one shard only, not both a and b"),
    (shards('name = "a"\npartitions = "0-9"', 'name = "b"\npartitions = "2-7"'),
     "shards[b].partitions",
     "partitions 2, 3, 4, 5, 6, … can have one shard only, not both a and b"),
    # Values that do not go together.
    (limits('drain_deadline = "5m"'), "limits.drain_deadline",
     "300s is too long: expected less than 295s, which is kafka.max_poll_interval_ms without"
     " the 5s that the commit after it may take"),
    (document(kafka="max_poll_interval_ms = 14000"), "limits.drain_deadline",
     "10s is too long: expected less than 9s, which is kafka.max_poll_interval_ms without"
     " the 5s that the commit after it may take"),
    (limits("max_buffered = 10\nmax_batch = 11"), "limits.max_batch",
     "11 is too many: expected at most limits.max_buffered (10)"),
    (document(more="[errors]\nbackoff_initial = 11"), "errors.backoff_initial",
     "11s is too long: expected at most errors.backoff_max (10s)"),
    (document(more='[errors]\ndead_letter_topic = "t"'), "errors.dead_letter_topic",
     '"t" is one of kafka.topics: dead letters would be read again'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "message"), MISTAKES, ids=[key for _, key, _ in MISTAKES])
def test_a_mistake_is_told_once_where_it_is(
    tmp_path: Path, text: str, key: str, message: str
) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [(each.key, each.message) for each in caught.value.mistakes] == [(key, message)]
