"""``pipeline dlq`` on the real things: dead letters listed, shown, sent back once, dropped."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import MessageSizeTooLargeError

from pipeline.cli import main
from pipeline.errors import PipelineError
from pipeline.local.postgres import psql
from pipeline.operate import replay
from pipeline.records.disposition import DeadLetterReason
from tests.support import accounts
from tests.support.letters import DSN, REFUSED, UNDECODED, Dlq, Letters, Output, offsets
from tests.support.pipelines import JobFactory
from tests.support.records import Raw
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real


def test_what_postgres_refused_is_applied_once_its_cause_is_mended(
    new_job: JobFactory, topic: TopicFactory, database: DatabaseFactory, dlq: Dlq
) -> None:
    dsn = database()
    psql(dsn, accounts.TABLE + "alter table accounts add constraint small check (last < 90)")
    letters = Letters(new_job(1), topic(1))
    job = letters.job
    errors = f'dead_letter_topic = "{letters.topic}"'
    job.write_config({"db0": (dsn, "")}, errors=errors)
    job.produce([accounts.change(n % 10, n) for n in range(100)])
    instance = job.start()
    job.wait_caught_up()
    listed = dlq(letters, "list")
    assert listed[-1] == f"10 dead letters on {letters.topic}"
    assert all("23514" in line for line in listed[1:-1])
    assert any('constraint "small"' in line for line in dlq(letters, "show", "0"))
    assert all("small" in line and len(line) > 80 for line in listed[1:-1]), "the whole reason"
    psql(dsn, "alter table accounts drop constraint small")
    assert dlq(letters, "replay") == ["replayed 10 dead letters"]
    job.wait_caught_up()
    (records,) = job.log().values()
    assert [record.value for record in records[100:]] == [
        record.value for record in records[90:100]
    ]
    assert accounts.differences({0: records[:90] + records[100:]}, dsn) == []
    assert dlq(letters, "list")[0] == f"0 dead letters on {letters.topic}"
    assert dlq(letters, "replay")[0] == "replayed 0 dead letters"
    assert len(job.log()[0]) == 110
    assert instance.stop() == 0


def test_what_is_sent_back_is_the_record_as_it_was(letters: Letters, dlq: Dlq) -> None:
    letters.put(7, "a", value=b"\xff\x00", headers=[("trace", b"abc"), ("trace", b"\xfe")])
    dlq(letters, "replay")
    (record,) = letters.job.log()[0]
    assert (record.key, record.value) == (b"a", b"\xff\x00")
    assert record.timestamp == Raw().timestamp
    origin = f"{letters.topic}-0@0".encode()
    assert record.headers == [
        ("trace", b"abc"), ("trace", b"\xfe"), ("pipeline.replayed-from", origin)
    ]  # fmt: skip


def test_nulls_are_sent_back_as_nulls(letters: Letters, dlq: Dlq) -> None:
    """Some of them a dead letter can't hold: a value without a key, a header."""
    headers = [("trace", b""), ("trace", None), ("other", None), ("last", b"x")]
    letters.put(1, "tombstone", value=None, headers=headers)
    letters.put(2, None, value=None, headers=[("a", b"")])
    letters.put(3, None, value=b"", headers=[("a", None)])
    assert "  (null: a tombstone)" in dlq(letters, "show", "1")
    dlq(letters, "replay")
    records = letters.job.log()[0]
    assert [(record.key, record.value) for record in records] == [
        (b"tombstone", None), (None, None), (None, b"")
    ]  # fmt: skip
    assert [record.headers[:-1] for record in records] == [
        headers, [("a", b"")], [("a", None)]
    ]  # fmt: skip
    assert all(name == "pipeline.replayed-from" for *_, (name, _) in (r.headers for r in records))


def test_filters(letters: Letters, dlq: Dlq) -> None:
    letters.put(1, "a", REFUSED)
    letters.put(2, "b", UNDECODED)
    letters.put(3, "a", DeadLetterReason("no", "CheckViolationError", "23514"))
    for words, expected in {
        "--error 22": ["0"],
        "--error 23514": ["2"],
        "--error 2": ["0", "2"],
        "--error DecodeError": ["1"],
        "--error asyncpg.exceptions.CheckViolationError": ["2"],
        "--key a": ["0", "2"],
        "--key a --error 23": ["2"],
        "--since 1h": ["0", "1", "2"],
        "--until 1h": [],
        "--limit 2": ["0", "1"],
    }.items():
        assert offsets(dlq(letters, "list", *words.split())) == expected, words
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert offsets(dlq(letters, "list", "--since", later)) == []
    assert dlq(letters, "replay", "--key", "a", "--limit", "1")[0] == "replayed 1 dead letter"
    assert offsets(dlq(letters, "list")) == ["1", "2"]


def test_show_tells_everything(letters: Letters, dlq: Dlq) -> None:
    letters.put(42, "user-1", value='{"id": 1, "name": "Zoë"}'.encode(), headers=[("trace", b"x")])
    lines = dlq(letters, "show", "0")
    assert lines[0] == f"dead letter  {letters.topic}-0@0 (waiting)"
    assert f"source       {letters.job.topic}-0@42" in lines
    assert "made         2023-11-14T22:13:20.000+00:00" in lines
    assert "sqlstate     22003" in lines
    assert "error        NumericValueOutOfRangeError" in lines
    assert "reason       value out of range" in lines
    assert "attempts     2" in lines
    assert "key          user-1" in lines
    assert "header       trace: x" in lines
    assert lines[-5:] == ["value", "{", '  "id": 1,', '  "name": "Zoë"', "}"]
    assert "there is no dead letter" in dlq(letters, "show", "5", code=1)[0]


def test_json_has_every_dead_letter_whole(letters: Letters, dlq: Dlq) -> None:
    reason = DeadLetterReason("a reason " * 30, "CheckViolationError", "23514", 2)
    letters.put(7, "a", reason)
    letters.put(8, "b", value=b"\xff", headers=[("trace", b"x")])
    (line,) = dlq(letters, "list", "--json")
    found = json.loads(line)
    assert (found["topic"], found["others"]) == (letters.topic, 0)
    first, second = found["dead_letters"]
    assert first["reason"] == reason.reason
    assert first["source"] == {"topic": letters.job.topic, "partition": 0, "offset": 7}
    assert (first["state"], first["sqlstate"], first["attempts"]) == ("waiting", "23514", 2)
    assert (first["key"], first["value"]) == ("a", '{"n": 1}')
    assert (second["value"], second["headers"]) == ({"base64": "/w=="}, [["trace", "x"]])
    assert json.loads(dlq(letters, "show", "0", "--json")[0]) == first


def test_one_is_repaired_and_replayed(
    letters: Letters, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    letters.put(7, "a", value=b'{"n": "x"}', headers=[("trace", b"x")])
    letters.put(8, "b")
    config = str(letters.job.config)
    assert main(["dlq", "show", "0", "--raw", "--config", config]) == 0
    raw = capfdbinary.readouterr().out
    assert raw == b'{"n": "x"}', "nothing before it, and nothing after it"
    mended = tmp_path / "value.json"
    mended.write_bytes(raw.replace(b'"x"', b"7"))
    words = ["dlq", "replay", "--value", str(mended), "--config", config]
    assert main(words) == 2, "which one?"
    assert main([*words, "0"]) == 0
    assert main([*words, "0"]) == 2, "there is none any more"
    assert main(["dlq", "replay", "1", "--value", str(tmp_path / "no"), "--config", config]) == 2
    (record,) = letters.job.log()[0]
    assert (record.key, record.value) == (b"a", b'{"n": 7}')
    assert record.headers[0] == ("trace", b"x")


def test_several_partitions_of_dead_letters_keep_each_sources_order(
    new_job: JobFactory, topic: TopicFactory, dlq: Dlq
) -> None:
    letters = Letters(new_job(2), topic(2))
    letters.put(30, "c", at=0)
    letters.put(20, "b", at=1)
    letters.put(10, "a", at=0)
    letters.put(5, "other", source=1, at=1)
    assert offsets(dlq(letters, "list")) == ["0:0", "0:1", "1:0", "1:1"]
    assert "several partitions have this offset" in dlq(letters, "show", "0", code=1)[0]
    assert "key          b" in dlq(letters, "show", "1:0")
    dlq(letters, "replay")
    assert letters.sent(0) == ["a", "b", "c"]
    assert letters.sent(1) == ["other"]
    assert offsets(dlq(letters, "list")) == []


def test_a_record_that_was_set_aside_twice_is_sent_once(letters: Letters, dlq: Dlq) -> None:
    letters.put(1, "a")
    letters.put(1, "a")
    letters.put(2, "b")
    assert dlq(letters, "replay", "--limit", "1")[0] == "replayed 1 dead letter"
    assert letters.sent() == ["a"]
    assert offsets(dlq(letters, "list")) == ["2"]


def test_dropped_letters_are_passed_over_until_asked_for_again(letters: Letters, dlq: Dlq) -> None:
    for n in range(4):
        letters.put(n, "abcd"[n])
    assert "to confirm, pass --yes" in dlq(letters, "drop", "0", code=1)[0]
    assert dlq(letters, "drop", "0", "2", "--yes") == ["dropped 2 dead letters"]
    listed = dlq(letters, "list")
    assert offsets(listed) == ["1", "3"]
    assert listed[-1].startswith("2 replayed or dropped")
    assert dlq(letters, "replay")[0] == "replayed 2 dead letters"
    every = dlq(letters, "list", "--all")
    assert [line.split("(")[-1].split(")")[0] for line in every[1:5]] == [
        "dropped", "replayed", "dropped", "replayed"
    ]  # fmt: skip
    assert dlq(letters, "replay", "--again")[0] == "replayed 4 dead letters"
    assert letters.sent() == ["b", "d", "a", "b", "c", "d"]
    assert "nothing was dropped" in dlq(letters, "drop", "--yes")[0]


def test_other_groups_letters_are_left_alone(letters: Letters, dlq: Dlq) -> None:
    letters.put(1, "theirs", group="another")
    letters.put(2, "ours")
    assert (
        dlq(letters, "list")[-1]
        == f"1 other record there, none of group {letters.job.group.group}'s dead letters"
    )
    dlq(letters, "replay")
    assert letters.sent() == ["ours"]


@pytest.mark.parametrize("cut", [KeyboardInterrupt, PipelineError])
def test_an_interrupted_replay_loses_nothing_and_repeats_one_chunk_at_most(
    letters: Letters, dlq: Dlq, monkeypatch: pytest.MonkeyPatch, cut: type[BaseException]
) -> None:
    monkeypatch.setattr(replay, "CHUNK", 3)
    monkeypatch.setattr("pipeline.cli.dlq.CHUNK", 3)
    for n in range(10):
        letters.put(n, str(n))
    real, calls = replay._mark, []

    def mark(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise cut("the second chunk is sent, and not marked")
        real(*args)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(replay, "_mark", mark)
        if cut is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                dlq(letters, "replay")
        else:
            dlq(letters, "replay", code=1)
    assert letters.sent() == list("012345")
    lines = dlq(letters, "replay")
    assert letters.sent() == list("0123453456789")
    assert lines[-2] == "replayed 7 dead letters"
    assert "replayed 3 of 7" in lines
    assert dlq(letters, "replay")[0] == "replayed 0 dead letters"


def test_a_failed_send_is_told_and_leaves_the_rest_waiting(
    letters: Letters, dlq: Dlq, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        letters.put(n, str(n))
    real = replay._start

    def start(producer: Any, letter: Any) -> Any:
        if letter.key == b"2":
            raise MessageSizeTooLargeError("larger than the topic allows")
        return real(producer, letter)

    with monkeypatch.context() as broken:
        broken.setattr(replay, "_start", start)
        (message,) = dlq(letters, "replay", code=1)
    assert f"dead letter {letters.topic}-0@2 could not be sent" in message
    assert letters.sent() == ["0", "1"]
    assert offsets(dlq(letters, "list")) == ["2", "3"]
    dlq(letters, "replay")
    assert letters.sent() == ["0", "1", "2", "3"]


def test_a_source_that_is_gone_stops_a_replay_before_anything_is_sent(
    letters: Letters, dlq: Dlq
) -> None:
    letters.put(1, "a")
    letters.put(2, "b", source=5)
    (message,) = dlq(letters, "replay", code=1)
    assert "a partition that topic" in message
    assert letters.sent() == []


def test_mistakes_are_named(letters: Letters, dlq: Dlq, capsys: Output) -> None:
    job = letters.job
    job.write_config({"db0": (DSN, "")}, errors='dead_letter_topic = "no-such-topic"')
    assert "there is no topic no-such-topic" in dlq(letters, "list", code=2)[0]
    job.write_config({"db0": (DSN, "")})
    assert "errors.dead_letter_topic: not set" in dlq(letters, "list", code=2)[0]
    for words in (["show", "x"], ["list", "--limit", "0"], ["list", "--since", "soon"]):
        with pytest.raises(SystemExit) as exit:
            main(["dlq", *words, "--config", str(job.config)])
        assert exit.value.code == 2
        assert "expected" in capsys.readouterr().err
