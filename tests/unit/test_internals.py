"""The names inside of kafka-python and aiokafka: all in one list, all there, one known range."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.kafka import internals
from pipeline.kafka.internals import INTERNALS, require_known_versions, requirements
from tests.support.installed import has, owner

ROOT = Path(__file__).parents[2]
SEAM = [
    path for room in ("kafka", "operate", "check", "demo", "local", "config")
    for path in sorted((ROOT / "pipeline" / room).rglob("*.py"))
] + [ROOT / "pipeline" / "partitioner.py"]  # fmt: skip
"""The files that may know kafka-python."""


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, names in INTERNALS.items() for name in names]
)
def test_each_name_is_there(place: str, name: str) -> None:
    assert has(owner(place), name)


def test_a_name_that_is_not_there_would_be_seen() -> None:
    assert not has(owner("kafka.consumer.fetcher:Fetcher"), "_next_partition")


def private_names(path: Path) -> Iterator[tuple[str, int]]:
    """The private attributes that a file uses of objects that are not its own, each with its line.

    In a subclass of kafka-python's these are also the attributes of ``self`` that it does not define.
    """
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            if ast.unparse(node.value) not in ("self", "cls", "os"):
                yield node.attr, node.lineno
        elif isinstance(node, ast.ClassDef) and "PartitionRecords" in map(last_name, node.bases):
            own = {step.name for step in node.body if isinstance(step, ast.FunctionDef)}
            for inner in (step for step in ast.walk(node) if isinstance(step, ast.Attribute)):
                if ast.unparse(inner.value) == "self" and inner.attr not in own:
                    yield inner.attr, inner.lineno


def last_name(expression: ast.expr) -> str:
    """The last step of a dotted name."""
    return ast.unparse(expression).rpartition(".")[2]


def test_the_list_holds_every_private_name_that_is_used() -> None:
    listed = {name for names in INTERNALS.values() for name in names}
    ours = {"_replace"}  # of named tuples
    missing = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in SEAM
        for name, line in private_names(path)
        if name not in listed | ours
    ]
    assert missing == []


def test_the_list_holds_no_more_than_is_used() -> None:
    used = "\n".join(path.read_text() for path in SEAM if path.name != "internals.py")
    magic = {"__iter__", "__await__"}
    unused = [
        f"{place} {name}"
        for place, names in INTERNALS.items()
        for name in names
        if name not in magic and not re.search(rf"\b{name}\b", used)
    ]
    assert unused == []


def test_the_installed_versions_are_known() -> None:
    require_known_versions()


def test_the_package_requires_the_versions_that_are_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.sub(r"\[.*\]", "", line) for line in project["dependencies"]}
    assert set(requirements()) <= declared


@pytest.mark.parametrize(
    ("name", "installed"),
    [
        ("kafka-python", "3.0.11"),
        ("kafka-python", "3.1.0"),
        ("kafka-python", "3.1rc1"),
        ("kafka-python", "2.3.3"),
        ("aiokafka", "0.13.0"),
        ("aiokafka", "0.15.0"),
    ],
)
def test_another_version_is_refused_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch, name: str, installed: str
) -> None:
    known = {"kafka-python": "3.0.12", "aiokafka": "0.14.0"}
    monkeypatch.setattr(internals, "version", (known | {name: installed}).__getitem__)
    with pytest.raises(PipelineError) as refused:
        require_known_versions()
    assert str(refused.value) == (
        f"can't work with {name} {installed}: names are used that these libraries may change in any "
        "version, so only kafka-python>=3.0.12,<3.1, aiokafka>=0.14,<0.15 will do. "
        "Type: pip install 'kafka-python>=3.0.12,<3.1' 'aiokafka>=0.14,<0.15'"
    )


@pytest.mark.parametrize("installed", ["3.0.12", "3.0.13", "3.0.100", "3.0.13.post1"])
def test_later_versions_of_the_range_are_taken(
    monkeypatch: pytest.MonkeyPatch, installed: str
) -> None:
    found = {"kafka-python": installed, "aiokafka": "0.14.0"}
    monkeypatch.setattr(internals, "version", found.__getitem__)
    require_known_versions()


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(internals, "version", nothing)
    with pytest.raises(PipelineError, match="kafka-python is not installed, aiokafka is not inst"):
        require_known_versions()


@pytest.mark.parametrize("command", ["run", "lag"])
def test_a_command_refuses_a_wrong_version_in_one_line(command: str, tmp_path: Path) -> None:
    """Before any module that needs the names is imported, and before anything is connected."""
    config = tmp_path / "sessions.toml"
    config.write_text(CONFIG)
    program = (
        "import importlib.metadata as m, sys; known = m.version; "
        "m.version = lambda name: '3.1.0' if name == 'kafka-python' else known(name); "
        f"from pipeline.cli import main; sys.exit(main(['{command}', '--config', {str(config)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("pipeline: can't work with kafka-python 3.1.0: ")


CONFIG = """\
[pipeline]
name = "sessions"
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = ["sessions"]
[records]
key = "id"
[sink]
table = "public.subscriptions"
primary_key = ["id"]
[sink.columns]
id = "id"
[[shards]]
name = "db0"
dsn = "postgresql://one/db0"
partitions = "0-5"
"""
