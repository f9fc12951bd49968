"""A configuration that is read again: what can change, what is refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import pipeline.ingest.instance as ingest
from pipeline.config.changes import changed_keys
from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config
from pipeline.postgres.store.batch_sizer import BatchSizer
from pipeline.service.reload import LIVE
from pipeline.supervise.reload import LEVEL, Reloading
from pipeline.supervise.supervision import Supervision
from tests.support.configurations import document, shards

ROOT = Path(__file__).parents[2]


def configured(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "p.toml"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        (document(), document(), []),
        (document(), document(more="[limits]\nmax_batch = 7"), ["limits.max_batch"]),
        (document(), document(kafka="session_timeout_ms = 7000"), ["kafka.session_timeout_ms"]),
        (document(), document(columns='a = "b"'), ["sink.columns.a"]),
        (document(), document(shard="connections = 5"), ["shards[db0].connections"]),
        (
            shards('name = "a"\npartitions = "0"', 'name = "b"\npartitions = "1"'),
            shards('name = "b"\npartitions = "1"', 'name = "a"\npartitions = "0"'),
            ["shards"],
        ),
        (
            shards('name = "a"'),
            shards('name = "a"\npartitions = "0"', 'name = "b"\npartitions = "1"'),
            ["shards[a].partitions", "shards[b]"],
        ),
        (document(), document(more='[http]\nlisten = "127.0.0.1:0"'), ["http"]),
        (document(), document(more='[log]\nlevel = "debug"'), ["log.level"]),
    ],
)
def test_what_has_changed_is_named_by_its_key(
    tmp_path: Path, before: str, after: str, keys: list[str]
) -> None:
    assert changed_keys(configured(tmp_path, before), configured(tmp_path, after)) == keys


def test_a_password_that_changes_in_its_file_is_no_change(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    text = document().replace("postgresql://app:s3cr3t@127.0.0.1:5432/app", f"${{file:{secret}}}")
    secret.write_text("postgresql://app:one@db/app")
    before = configured(tmp_path, text)
    secret.write_text("postgresql://app:two@db/app")
    assert changed_keys(before, configured(tmp_path, text)) == []
    assert changed_keys(before, configured(tmp_path, document())) == ["shards[db0].dsn"]


Apply = Callable[[Config], None]


def reloading(tmp_path: Path, applied: list[Config]) -> Reloading:
    config = configured(tmp_path, document())
    read = partial(load, tmp_path / "p.toml")
    live = {"limits.max_batch": applied.append}
    return Reloading(config, read, live, ["ingest", "shards"], tmp_path / "answer")


def test_the_reference_names_what_a_reload_changes_and_no_more() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text().partition("## What a reload changes")[2]
    named = [
        f"{section}.{key}"
        for section, keys in re.findall(r"^- `\[(\w+)\]` (.*)$", text, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", keys)
    ]
    assert set(named) == {LEVEL, *LIVE, *ingest.LIVE}


async def test_a_reload_puts_what_can_change_into_effect_and_answers(tmp_path: Path) -> None:
    applied: list[Config] = []
    reload = reloading(tmp_path, applied)
    (tmp_path / "p.toml").write_text(document(more="[limits]\nmax_batch = 7"))
    assert await reload() == ""
    assert [config.limits.max_batch for config in applied] == [7]
    assert reload.config is applied[0]
    assert (tmp_path / "answer").read_text() == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            document(kafka='group_id = "g"', more="[limits]\nmax_batch = 7"),
            "a restart is needed to change kafka.group_id",
        ),
        (
            document(more="[limits]\nmax_bacth = 7"),
            'limits.max_bacth: unknown key (did you mean "max_batch"?)',
        ),
        ("[", "line 1"),
    ],
)
async def test_a_reload_that_is_refused_changes_nothing_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, why: str
) -> None:
    applied: list[Config] = []
    reload = reloading(tmp_path, applied)
    before = reload.config
    (tmp_path / "p.toml").write_text(text)
    assert (await reload()).startswith(why)
    assert applied == []
    assert reload.config is before
    assert (tmp_path / "answer").read_text().startswith(why)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    facts = vars(caplog.records[0])["facts"]
    assert facts["event"] == "not-reloaded"
    assert facts["reason"].startswith(why)


async def test_sections_that_are_for_others_may_change(tmp_path: Path) -> None:
    applied: list[Config] = []
    reload = reloading(tmp_path, applied)
    (tmp_path / "p.toml").write_text(document(shard="connections = 9"))
    assert await reload() == ""
    assert reload.config.shards[0].connections == 9


async def test_a_change_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    def refuse(config: Config) -> None:
        raise ConfigError(config.source, [Mistake("ingest.tls_cert", "no such file")])

    reload = attrs_evolved(reloading(tmp_path, []), refuse)
    before = reload.config
    assert await reload() == "ingest.tls_cert: no such file"
    assert reload.config is before


def attrs_evolved(reload: Reloading, apply: Apply) -> Reloading:
    return Reloading(reload.config, reload.read, {"ingest.tokens": apply})


async def test_what_came_from_standard_input_is_not_read_again(tmp_path: Path) -> None:
    reload = Supervision.of({}, None).reloading(configured(tmp_path, document()), {}, ())
    assert await reload() == "was not read from a file"


@pytest.mark.parametrize(("bounded", "limits"), [(False, (70, 20)), (True, (1, 1))])
def test_batches_take_another_size_at_once_but_a_handlers_prove_it_first(
    bounded: bool, limits: tuple[int, int]
) -> None:
    sizer = BatchSizer(50, bounded=bounded)
    found = []
    for largest in (70, 20):
        sizer.resize(largest)
        found.append(sizer.limit)
    assert tuple(found) == limits
