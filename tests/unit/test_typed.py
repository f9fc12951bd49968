"""What people type: the configuration's name in each way, Ctrl-C and Ctrl-D, a terminal without UTF-8."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from pipeline.cli import main, script
from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from pipeline.operate import console
from pipeline.operate.deadletters import Found, moment_of, parse
from pipeline.operate.views import dead_letter_details, dead_letter_lines
from pipeline.records.record import TopicPartition
from tests.support.configurations import document
from tests.support.records import Raw


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A configuration with one mistake, found before anything is connected to."""
    path = tmp_path / "wrong.toml"
    path.write_text(document(more="[limits]\nmax_batch = 0"))
    return path


MISTAKE = "limits.max_batch: expected a whole number above 0"


def test_the_configuration_is_named_by_a_short_option(
    wrong: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lag", "-c", str(wrong)]) == 2
    assert f"{wrong}: {MISTAKE}" in capsys.readouterr().err


def test_the_configuration_is_named_by_the_environment(
    wrong: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CONFIG", str(wrong))
    for command in (["run"], ["check"], ["lag"], ["dlq", "list"], ["rewind", "--to", "earliest"]):
        assert main(command) == 2
        assert f"{wrong}: {MISTAKE}" in capsys.readouterr().err
    assert main(["lag", "--config", "no.toml"]) == 2, "an option says more"
    assert "no.toml: can't be read" in capsys.readouterr().err


def test_the_configuration_comes_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.BytesIO(document(more="[limits]\nmax_batch = 0").encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data))
    assert main(["check", "--config", "-"]) == 2
    assert f"standard input: {MISTAKE}" in capsys.readouterr().err


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p.toml").write_text(document())
    assert load("~/p.toml").source == str(tmp_path / "p.toml")


def test_a_file_without_its_option_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "p.toml"])
    assert end.value.code == 2
    assert "give --config p.toml" in capsys.readouterr().err


def test_check_tells_mistakes_as_json(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "--config", str(wrong)]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["ok"], found["warnings"]) == (str(wrong), False, [])
    (mistake,) = found["mistakes"]
    assert mistake["key"] == "limits.max_batch"


def test_the_name_alone_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "consume Kafka and write Postgres" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_end_of_input_at_a_question_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert not console.confirmed("Go on?", yes=False)


def test_ctrl_c_ends_any_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.cli.lag.main", interrupted)
    monkeypatch.setattr("sys.argv", ["pipeline", "lag", "--config", "p.toml"])
    assert script() == 130
    assert capsys.readouterr().err == "\npipeline: interrupted\n"


def test_a_terminal_without_utf_8_gets_what_it_can_show(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(document(more='"naïve…" = 1'), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "check", "--config", "p.toml"],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "na\\xefve\\u2026" in done.stderr


def test_a_mark_of_byte_order_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(document(), encoding="utf-8-sig")
    assert load(path).pipeline.name == "p"


def test_a_text_without_quotation_marks_gets_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text("[pipeline]\nname = orders\n")
    with pytest.raises(ConfigError, match="a text needs quotation marks"):
        load(path)
    path.write_text("[pipeline]\nname = = 3\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "needs quotation marks" not in str(caught.value)


@pytest.mark.parametrize("millis", [-1, 1_732_621_212_345_678, 2**63 - 1])
def test_a_timestamp_beyond_the_calendar_has_no_moment(millis: int) -> None:
    assert moment_of(millis) is None


def test_a_dead_letter_with_a_timestamp_in_microseconds_is_shown() -> None:
    """Kafka takes whatever a producer sends (unless the topic limits it)."""
    place = TopicPartition("letters", 0)
    headers = [("__connect.errors." + name, value) for name, value in
               {"topic": b"t", "partition": b"0", "offset": b"7",
                "exception.message": b"a reason " * 30}.items()]  # fmt: skip
    letter = parse(
        place, attrs.evolve(Raw(0, b"k", b"1", headers), timestamp=1_732_621_212_345_678)
    )
    assert letter is not None
    made = "made         1732621212345678 ms since 1970: beyond any calendar (microseconds?)"
    assert made in list(dead_letter_details(letter, None))
    _, line = dead_letter_lines([letter], Found(), several=False)
    assert line.endswith("a reason " * 29 + "a reason"), "the whole reason"
    assert "1970-01-01 00:00:00" in line
