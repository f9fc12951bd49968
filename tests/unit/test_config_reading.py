"""Reading a configuration: every mistake at once, one for each slip, and never another error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError, Mistake
from tests.support.configurations import (
    COLUMNS,
    DSN,
    KAFKA,
    PIPELINE,
    SHARD,
    SINK,
    document,
)

Mistakes = Callable[[str], list[tuple[str, str]]]


@pytest.fixture
def mistakes(tmp_path: Path) -> Mistakes:
    def mistakes_of(text: str) -> list[tuple[str, str]]:
        path = tmp_path / "pipeline.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        return [(mistake.key, mistake.message) for mistake in caught.value.mistakes]

    return mistakes_of


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


@pytest.mark.parametrize(
    "dsn",
    [
        "mysql://app:s3cr3t@h/d",
        "host=h password=s3cr3t",
        "postgresql:s3cr3t",
        "postgresql://app:s3/cr3t@h:x/d",
        "postgresql://app:s3cr3t@[h/d",
        "postgresql://h:s3cr3t/d",
        "postgresql://app:p@s3cr3t@h/d",
    ],
)
def test_a_bad_dsn_is_not_shown(mistakes: Mistakes, dsn: str) -> None:
    [(key, message)] = mistakes(document().replace(DSN, dsn))
    assert key == "shards[db0].dsn"
    assert message.startswith("expected a URL such as postgresql://USER@HOST:5432/DATABASE")
    assert "s3" not in message


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
