"""The command line as people meet it: help, exit codes, messages; and that documents are current."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from pipeline.cli import COMMANDS, main, make_parser
from pipeline.cli.common import known, messages
from pipeline.config import kafka_options
from pipeline.config import load as loading
from pipeline.config import model as configuration
from pipeline.config.load import load
from pipeline.config.reading import fields_by_key
from pipeline.errors import PipelineError
from pipeline.postgres.sink.merges import MERGES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"pipeline {command}" in shown.partition("example")[2]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands, at any depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_fits_a_terminal_of_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = {parser.prog: parser.format_help() for parser in parsers(make_parser(command))}
    assert f"pipeline {command}" in shown
    wide = [
        (prog, line) for prog, text in shown.items() for line in text.splitlines() if len(line) > 80
    ]
    assert wide == []


@pytest.mark.parametrize("argv", [[], ["no-such-command"], ["run"], ["demo", "--rate", "0"]])
def test_wrong_arguments_are_mistakes(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2


@pytest.mark.parametrize("command", ["run", "check", "lag"])
def test_a_wrong_configuration_is_told_line_by_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[pipeline]\nnam = "sessions"\n[kafka]\ntopics = []\n')
    assert main([command, "--config", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert f'{path}: pipeline.nam: unknown key (did you mean "name"?)' in lines
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert len(lines) > 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("command", [["check", "--ddl"], ["completion", "bash"]])
def test_an_output_that_can_not_be_written_is_told_in_one_line(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "pipeline: the output can't be written: No space left on device\n",
    )


def test_check_wants_a_configuration_or_ddl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert "--config" in capsys.readouterr().err


def test_the_ledger_is_printed_without_connecting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--ddl"]) == 0
    shown = capsys.readouterr().out
    assert "create table if not exists pipeline.ownership" in shown
    assert "create table if not exists pipeline.applied" in shown


def test_a_group_of_errors_is_told_cause_by_cause_and_each_once() -> None:
    group = BaseExceptionGroup(
        "outer",
        [
            PipelineError("the table is gone"),
            ExceptionGroup("inner", [PipelineError("the table is gone"), ValueError("odd")]),
        ],
    )
    assert list(messages(group)) == ["the table is gone", "ValueError: odd"]
    assert not known(group)
    assert known(ExceptionGroup("expected", [PipelineError("the table is gone")]))


async def test_cancellations_in_a_group_are_not_told() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            group = BaseExceptionGroup("both", [cancelled, PipelineError("why")])
            assert list(messages(group)) == ["why"]
            assert known(group)
            raise


def sections() -> dict[str, set[str]]:
    """The configuration reference: section → the keys that its tables name."""
    found: dict[str, set[str]] = {}
    for section in REFERENCE.split("\n## ")[1:]:
        if title := re.match(r"\[+(\w+)[.\w]*\]+\n", section):  # a column's keys are the sink's
            for block in section.split("\n\n"):
                if block.startswith("| key |"):
                    keys = re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)
                    found.setdefault(title[1], set()).update(keys)
    return found


def configured_keys() -> dict[str, set[str]]:
    """The keys that the configuration's classes read, a column's among the sink's."""
    classes: dict[str, list[type[Any]]] = {
        "pipeline": [configuration.PipelineConfig],
        "kafka": [configuration.KafkaConfig],
        "records": [configuration.RecordsConfig],
        "sink": [configuration.SinkConfig, configuration.ColumnConfig],
        "shards": [configuration.ShardConfig],
        "limits": [configuration.LimitsConfig],
        "errors": [configuration.ErrorsConfig],
        "http": [loading._Listen],
        "ingest": [configuration.IngestConfig],
        "log": [configuration.LogConfig],
    }
    keys = {
        table: {key for cls in read for key in fields_by_key(cls)}
        for table, read in classes.items()
    }
    keys["shards"].add("dsn_file")  # another way to write dsn
    keys["errors"].add("retry")  # a table, whose keys are names of errors
    return keys


def test_the_reference_names_every_key_and_no_other() -> None:
    assert tuple(configured_keys()) == loading.TABLES
    assert sections() == configured_keys()


def test_the_reference_names_the_options_that_the_pipeline_sets_itself() -> None:
    (line,) = re.findall(r"^The pipeline sets these itself.*", REFERENCE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line)) == kafka_options.OWNED.keys()


def test_the_reference_names_every_merge_and_no_other() -> None:
    (block,) = (part for part in REFERENCE.split("\n\n") if part.startswith("| merge |"))
    named = [name for row in block.splitlines() for name in re.findall(r"`(\w+)`", row[:20])]
    assert set(named) == MERGES.keys()


@pytest.mark.parametrize(
    "cls", ["PipelineConfig", "RecordsConfig", "LimitsConfig", "ErrorsConfig", "LogConfig"]
)
def test_the_reference_has_the_defaults(cls: str) -> None:
    """Where the table shows a value in TOML, it is the value that the class has."""
    read = fields_by_key(getattr(configuration, cls))
    section = cls.removesuffix("Config").lower()
    part = REFERENCE.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", part, re.MULTILINE))
    shown = {key: tomllib.loads(f"v = {rows[key]}")["v"] for key in read if key in rows}
    for key, value in shown.items():
        field = read[key]
        assert field.metadata["kind"].parse(value) == field.default, key
    needed = {key for key, f in read.items() if isinstance(f.default, int | float | str)}
    assert needed <= shown.keys()


def test_the_readme_names_every_command_and_no_other() -> None:
    text = README.split("## Commands", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `pipeline (\w+)", text, re.MULTILINE)) == set(COMMANDS)


def test_the_quick_start_configuration_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    monkeypatch.setenv("KAFKA", "127.0.0.1:9092")
    monkeypatch.setenv("DSN", "postgresql://app@127.0.0.1/app")
    path = tmp_path / "sessions.toml"
    path.write_text(re.sub(r"^   ", "", toml, flags=re.MULTILINE))
    config = load(path)
    assert attrs.asdict(config.sink)["primary_key"] == ("id",)


@pytest.mark.parametrize(
    "document",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_documents_link_to_what_is_there(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        target, _, section = link.partition("#")
        if "://" in target:
            continue
        path = document.parent / target if target else document
        assert path.exists(), link
        if section:
            assert section in anchors(path), link


def test_the_index_names_every_document() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", (docs / "index.md").read_text()))
    there = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"index.md"}
    assert {name for name in there if not name.startswith("decisions/")} <= linked


def anchors(document: Path) -> set[str]:
    """The headings of a document as links name them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
