"""The forms of the log: lines, JSON, systemd's journal; and the fields that go along."""

from __future__ import annotations

import array
import ast
import inspect
import io
import json
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, get_args

import pytest

from pipeline.cli.common import load_at_level
from pipeline.config.model import LogFormat
from pipeline.contracts.kafka import Change
from pipeline.contracts.log_events import EVENTS, event
from pipeline.observe.journal import JournalHandler
from pipeline.observe.logging import configure_logging
from pipeline.records.record import TopicPartition
from tests.support.configurations import document

ROOT = Path(__file__).parents[2]
AWAY = event("shard-away", shard="db1", sqlstate="57P01", milliseconds=12.345)
log = logging.getLogger("pipeline.x")

pytestmark = pytest.mark.usefixtures("root")

Entry = dict[str, str]


def parsed(data: bytes) -> Entry:
    """An entry of the journal's protocol, read as journald does."""
    found: Entry = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + length], rest[8 + length + 1 :]
        else:
            data = rest
        key = name.decode()
        found[key] = f"{found[key]} {value.decode()}" if key in found else value.decode()
    return found


class Journald:
    """The other end of the journal's socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(10)

    def entry(self) -> Entry:
        data, ancillary, _, _ = self._socket.recvmsg(1 << 20, 64)
        for _, kind, value in ancillary:
            assert kind == socket.SCM_RIGHTS
            (file,) = array.array("i", value)
            with os.fdopen(file, "rb") as sent:
                sent.seek(0)
                with pytest.raises(OSError, match="permitted"):
                    os.ftruncate(sent.fileno(), 0)  # it is sealed
                data = sent.read()
        return parsed(data)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    found = Journald(tmp_path / "socket")
    monkeypatch.setattr("pipeline.observe.logging.SOCKET", found.path)
    yield found
    found.close()


@pytest.fixture
def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """A stream that systemd connected to the journal."""
    with (tmp_path / "stderr").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield stream


def written(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


def fail(message: str) -> None:
    try:
        raise RuntimeError("gone")
    except RuntimeError:
        log.exception(message)


def test_a_line_for_people_is_as_it_was_whatever_goes_along() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    log.warning("shard %s is away", "db1", extra=AWAY)
    assert re.fullmatch(r"\S+Z WARNING pipeline\.x shard db1 is away\n", stream.getvalue())


def test_as_json_a_record_is_an_object_on_a_line() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    log.warning("shard %s is away\nreally", "db1", extra=AWAY)
    fail("it failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "warning",
        "logger": "pipeline.x",
        "message": "shard db1 is away\nreally",
        "event": "shard-away",
        "shard": "db1",
        "sqlstate": "57P01",
        "milliseconds": 12.3,
    }
    assert list(second) == ["time", "level", "logger", "message", "traceback"]
    assert second["message"] == "it failed"
    assert second["traceback"].endswith("RuntimeError: gone")


def test_json_in_the_journal_has_its_priority_before_it(connected: io.TextIOWrapper) -> None:
    configure_logging("info", "json", stream=connected)
    log.error("no")
    text = written(connected)
    assert text.startswith("<3>{")
    assert json.loads(text[3:])["message"] == "no"


def test_a_broken_character_spoils_no_line_of_json() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    log.info("header %s", b"\xff".decode(errors="surrogateescape"))
    assert json.loads(stream.getvalue())["message"] == "header \udcff"
    assert stream.getvalue().isascii()


def test_where_the_stream_is_the_journal_the_fields_go_there_by_themselves(
    connected: io.TextIOWrapper, journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSLOG_IDENTIFIER", "pipeline@sessions")
    configure_logging("info", stream=connected)
    sources = [TopicPartition("t", 0), TopicPartition("t", 1)]
    log.warning("shard %s is away", "db1", extra=AWAY)
    log.info("assigned", extra=event("assigned", partitions=sources))
    entry = journald.entry()
    assert Path(entry.pop("CODE_FILE")).name == "test_log_formats.py"
    assert entry.pop("CODE_LINE").isdigit()
    assert entry.pop("CODE_FUNC").startswith("test_where_the_stream")
    assert entry == {
        "MESSAGE": "pipeline.x shard db1 is away",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "pipeline@sessions",
        "LOGGER": "pipeline.x",
        "EVENT": "shard-away",
        "SHARD": "db1",
        "SQLSTATE": "57P01",
        "MILLISECONDS": "12.3",
    }
    assert journald.entry()["PARTITIONS"] == "t-0 t-1"
    assert written(connected) == ""


def test_a_record_of_several_lines_is_one_entry(journald: Journald) -> None:
    configure_logging("info", "journald", stream=io.StringIO())
    fail("it failed")
    first, *rest = journald.entry()["MESSAGE"].splitlines()
    assert first == "pipeline.x it failed"
    assert rest[-1] == "    RuntimeError: gone"


def test_a_record_that_no_datagram_holds_goes_as_a_sealed_file(journald: Journald) -> None:
    configure_logging("info", "journald", stream=io.StringIO())
    text = "every task\n" * 200_000
    log.warning("%s", text)
    assert len(journald.entry()["MESSAGE"]) > len(text)


def test_what_the_journal_does_not_take_is_written_to_the_stream(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = JournalHandler(stream, str(tmp_path / "nothing"))
    logging.basicConfig(handlers=[handler], force=True)
    log.warning("one\ntwo")
    first, second, why = stream.getvalue().splitlines()
    assert (first, second) == ("<4>pipeline.x one", "<4>    two")
    assert why.startswith("<4>the journal did not take this: ")


def test_fields_that_are_not_known_are_left_out() -> None:
    source = TopicPartition("orders", 3)
    assert event("started", source=source, offset=0, sqlstate=None) == {
        "facts": {"event": "started", "topic": "orders", "partition": 3, "offset": 0}
    }


def named_events() -> Iterator[str]:
    """The first argument of each call of `event` in the package."""
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="event"), args=[ast.Constant(value=str(name))]):
                    yield name


def test_the_events_of_the_code_are_those_that_are_listed() -> None:
    assert {*named_events(), *(change.value for change in Change)} == set(EVENTS)


def test_the_document_has_every_event_and_field() -> None:
    text = (ROOT / "docs/operations/health.md").read_text()
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", text, flags=re.MULTILINE))
    assert table == dict(EVENTS)
    names = set(inspect.signature(event).parameters) - {"name", "source"} | {"event", "partition"}
    assert names <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_the_form_is_read_from_the_configuration_and_kept_by_the_level(
    form: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(document(more=f'[log]\nformat = "{form}"'))
    assert load_at_level(str(path), None).log.format == form
    config = load_at_level(str(path), "debug")
    assert (config.log.level, config.log.format) == ("debug", form)
