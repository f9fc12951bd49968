"""CONTRIBUTING.md and SECURITY.md name what there is: commands, options, rooms, files, privileges."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.postgres.ledger.schema import EXTRA_PRIVILEGES, PRIVILEGES
from tests.unit.test_architecture import ARROWS

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()

COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", CONTRIBUTING, flags=re.S)
    for line in block.splitlines()
]
OF_OTHERS = ("pip", ".")
"""Commands that the project does not bring along."""


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_that_is_named_can_be_typed(words: list[str]) -> None:
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    match words:
        case ["python", "-m", "pytest", *args]:
            assert (ROOT / args[0]).is_file()
        case ["python", "-m", module, *args]:
            assert importlib.util.find_spec(module), module
            options = {arg for arg in args if arg.startswith("--")}
            if options:  # without any, it would write a document here
                told = set(re.findall(r"--[a-z-]+", run(sys.executable, "-m", module, "--help")))
                assert options <= told
        case ["python", "-c", code]:
            assert "taken over, epochs" in run(sys.executable, "-c", code)
        case ["tests/lint", *checks]:
            known = re.findall(r"^ +([a-z]+)\) ", (ROOT / "tests/lint").read_text(), flags=re.M)
            assert set(checks) <= set(known)
        case [script, *_]:
            assert script in OF_OTHERS or os.access(ROOT / script, os.X_OK)


def test_the_map_has_every_room_and_no_other() -> None:
    a_map = CONTRIBUTING.partition("## A map of the code")[2].partition("| folder |")[0]
    rooms = re.findall(r"^\| `([a-z.]+)` \|", a_map, flags=re.M)
    assert set(rooms) == set(ARROWS) - {"__main__", "pipeline"}
    assert len(rooms) == len(set(rooms))


@pytest.mark.parametrize("text", [CONTRIBUTING, SECURITY], ids=["CONTRIBUTING", "SECURITY"])
def test_a_file_that_is_named_is_there(text: str) -> None:
    named = re.findall(r"`([\w.-]+/[\w./-]+)`", text) + re.findall(r"\]\(([^)]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists() and name[0] != "/"]
    assert named
    assert not missing


def test_a_test_that_is_named_as_an_example_is_there() -> None:
    (name,) = re.findall(r"`(test_\w+)`", CONTRIBUTING)
    assert f"def {name}(" in (ROOT / "tests/unit/test_channels.py").read_text()


def test_the_ledger_is_granted_what_the_pipeline_uses_and_no_more() -> None:
    granted = re.findall(r"grant ([a-z, ]+) on pipeline\.(\w+) to", SECURITY)
    assert {table: rights.replace(" ", "") for rights, table in granted} == {
        **PRIVILEGES,
        **EXTRA_PRIVILEGES,
    }


def test_hooks_are_checks_of_the_project_and_name_no_host() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    hooks = re.findall(r"entry: tests/lint (\w+)$", text, flags=re.M)
    known = re.findall(r"^ +([a-z]+)\) ", (ROOT / "tests/lint").read_text(), flags=re.M)
    assert sorted(hooks) == sorted(known)
    assert "://" not in text
