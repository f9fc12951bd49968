"""Processes below a server's guard: found parents first, and explained if psutil is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.local.errors import LocalError
from pipeline.local.processes import descendants, working_inside

FAMILY = """\
import subprocess, sys
child = [sys.executable, "-c", "print(flush=True); import sys; sys.stdin.read()"]
if sys.argv[1:]:
    child = [sys.executable, "-c", open(sys.argv[1]).read()]
process = subprocess.Popen(child, stdout=subprocess.PIPE, text=True)
process.stdout.readline()
print(process.pid, flush=True)
sys.stdin.read()
"""


def test_descendants_are_found_with_parents_first(tmp_path: Path) -> None:
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    with subprocess.Popen(
        [sys.executable, str(script), str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        below = descendants(process.pid)
        assert len(below) == 2
        assert below == [child, *descendants(child)]
        found = {member.pid for member in working_inside(tmp_path)}
        assert found == {process.pid, *below}
        process.communicate("")
    assert descendants(process.pid) == []


def test_without_psutil_the_command_to_type_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(LocalError, match=r"pip install 'kafka-to-postgres\[local\]'"):
        descendants(1)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["local", "down"]) == 1
    assert "pip install 'kafka-to-postgres[local]'" in capsys.readouterr().err
