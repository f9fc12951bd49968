"""What shells complete, and the manual pages: both are written from the parsers, and have all of them."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS, main, make_parser
from pipeline.cli.completion import SHELLS, parsers_of, script_for
from pipeline.cli.manual import pages
from pipeline.cli.parsers import VARIABLE


def long_options() -> Iterator[tuple[str, str]]:
    """The command's words and each long option of it."""
    for parser in parsers_of(make_parser(None, whole=True)):
        for action in parser._actions:
            for option in action.option_strings:
                if option.startswith("--"):
                    yield parser.prog, option


def nested() -> set[str]:
    return {parser.prog for parser in parsers_of(make_parser(None, whole=True))}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_option(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for words in nested():
        assert words.split()[-1] in script
    for _, option in long_options():
        assert (f"-l {option[2:]}" if shell == "fish" else option) in script, option


def test_a_shell_that_is_not_known_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "tcl"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["ru"], {"run"}),
        (["pause", "l"], {"list"}),
        (["run", "--log"], {"--log-level"}),
        (["run", "--log-level", "de"], {"debug"}),
        (["completion", ""], set(SHELLS)),
    ],
)
def test_bash_completes(typed: list[str], completed: set[str], tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script_for("bash"))
    words = " ".join(f"'{word}'" for word in ["pipeline", *typed])
    code = f"""
        source ./script
        complete -p pipeline >/dev/null
        COMP_WORDS=({words}); COMP_CWORD={len(typed)}
        _shtab_pipeline
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == completed


def test_an_option_that_takes_a_file_completes_files(tmp_path: Path) -> None:
    (tmp_path / "sessions.toml").touch()
    script = script_for("bash")
    files = set(re.findall(r"^(\w+)=_shtab_compgen_files$", script, flags=re.MULTILINE))
    assert "_shtab_pipeline_run___config_COMPGEN" in files
    for option in ("__config", "_c"):
        assert any(name.endswith(f"{option}_COMPGEN") for name in files)


def plain(page: str) -> str:
    return page.replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")


def test_there_is_a_page_for_each_command_and_one_that_lists_them() -> None:
    found = pages()
    assert set(found) == {"pipeline.1", *(f"pipeline-{name}.1" for name in COMMANDS)}
    for name, summary in COMMANDS.items():
        assert f"pipeline-{name} (1)\n{summary}" in plain(found["pipeline.1"])


def test_a_page_has_every_option_choice_and_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = {name: plain(page) for name, page in pages().items()}
    for parser in parsers_of(make_parser(None, whole=True)):
        _, *words = parser.prog.split()
        page = found["-".join(["pipeline", *words[:1]]) + ".1"]
        assert parser.format_usage().removeprefix("usage: ").rstrip() in page
        assert (parser.epilog or "").strip() in page or not words
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                continue
            assert all(option in page for option in action.option_strings)
            assert (action.help or "") % {**vars(action), "prog": parser.prog} in page


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is missing")
@pytest.mark.parametrize("name", ["pipeline.1", "pipeline-dlq.1", "pipeline-run.1"])
def test_a_page_is_without_mistakes(name: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww"], input=pages()[name], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert "SYNOPSIS" in re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)


def test_pages_are_written_into_a_directory_and_are_nobodys_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "/etc/mine.toml")
    command = [sys.executable, "-m", "pipeline.cli.manual", str(tmp_path / "man1")]
    subprocess.run(command, check=True, capture_output=True)
    written = {path.name: path.read_text() for path in (tmp_path / "man1").iterdir()}
    assert set(written) == set(pages())
    assert "mine.toml" not in "".join(written.values())
    assert "pipeline run [-h] -c FILE" in plain(written["pipeline-run.1"])
    wrong = subprocess.run(command[:-1], check=False, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.startswith("usage: ")) == (1, True)
