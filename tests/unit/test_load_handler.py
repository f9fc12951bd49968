"""A handler is found by its name, beside the configuration too, and its mistakes are found at start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from pipeline.config.load import load
from pipeline.errors import PipelineError, UsageError
from pipeline.kafka.dead_letters import NoDeadLetters
from pipeline.observe.metrics import Metrics
from pipeline.postgres.handlers.load import load_handler
from pipeline.stores import make_store
from tests.support.configurations import sink

ASYNC = "async def apply(tx, records): pass\n"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_it_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text(ASYNC)
    assert load_handler("beside_it:apply", tmp_path / "h.toml").__name__ == "apply"


def test_the_working_directory_comes_first(tmp_path: Path) -> None:
    (tmp_path / "in_both.py").write_text(ASYNC)
    Path("in_both.py").write_text(ASYNC)
    found = load_handler("in_both:apply", tmp_path / "h.toml")
    assert Path(found.__code__.co_filename).parent.name == "elsewhere"


def test_where_it_was_looked_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load_handler("not_there:apply", tmp_path / "h.toml")
    assert f"No module named 'not_there' (not in the working directory {Path.cwd()}" in str(
        caught.value
    )
    assert f"beside {tmp_path / 'h.toml'}" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_library\n", "can't be loaded: No module named 'no_such_library'$"),
        ("1 / 0\n", "can't be imported: ZeroDivisionError"),
        ("def apply(tx, records): pass\n", "must be an async function"),
        ("async def other(tx, records): pass\n", "has no function 'apply'"),
        ("async def apply(records): pass\n", r"must take two arguments.*it is apply\(records\)"),
        ("async def apply(tx, records, extra): pass\n", "must take two arguments"),
    ],
)
def test_a_handler_that_cannot_work_is_refused(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "of_test.py").write_text(code)
    with pytest.raises(UsageError, match=message):
        load_handler("of_test:apply", tmp_path / "h.toml")


async def test_one_that_cannot_be_loaded_is_found_before_the_group_is_joined(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path = tmp_path / "h.toml"
    path.write_text(sink('handler = "not_there:apply"'))
    with pytest.raises(UsageError, match="not_there"):
        make_store(load(path), Metrics(), NoDeadLetters(), nursery)


def test_further_arguments_with_defaults_are_no_matter(tmp_path: Path) -> None:
    (tmp_path / "with_more.py").write_text("async def apply(tx, records, *, fast=True): pass\n")
    load_handler("with_more:apply", tmp_path / "h.toml")
