"""`pipeline hold` and `pipeline limit` on the real Kafka: what they write, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.kafka.control_topic import control_topic_of
from tests.support.in_process import Commands
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import TopicFactory
from tests.support.topics import topic_id

pytestmark = pytest.mark.real

DSN = "postgresql://nobody@127.0.0.1:1/none"
"""Nothing listens there, and nothing may ask."""

VALUE_KEY = 'key = "id"\ntenant = "app"'


def commands(job: Job, capsys: pytest.CaptureFixture[str], **sections: str) -> Commands:
    job.write_config({"db0": (DSN, "")}, **{"records": VALUE_KEY, **sections})
    return Commands(job, capsys)


def states(run: Commands, *words: str) -> list[tuple[Any, str]]:
    found = run.json("hold", "list", *words)["holds"]
    return [(each["rule"], each["state"]) for each in found]


def test_a_hold_is_kept_until_it_is_released(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands(new_job(1), capsys)
    assert run.run("hold", "list").startswith("no holds in group")
    made = run.json("hold", "add", "--key", "12", "--for", "2h", "--reason", "bad import")
    assert made["rule"] == {"key": 12}
    assert (made["why"], made["until"] - made["since"]) == ("bad import", 7_200_000)
    run.run("hold", "add", "--key", '"12"')
    run.run("hold", "add", "--tenant", "app-7")
    assert f"key 12 is held already: hold {made['id']}" in run.refused("hold", "add", "--key", "12")
    assert [rule for rule, _ in states(run)] == [{"key": 12}, {"key": "12"}, {"tenant": "app-7"}]
    table = run.run("hold", "list")
    assert 'key "12"' in table
    assert max(map(len, table.splitlines())) <= 80

    run.run("hold", "release", made["id"])
    run.run("hold", "release", "--tenant", "app-7")
    assert states(run) == [({"key": "12"}, "holding")]
    assert ({"key": 12}, "released") in states(run, "--all")
    assert "was released already" in run.refused("hold", "release", made["id"])
    assert "tenant app-7 is not held" in run.refused("hold", "release", "--tenant", "app-7")


def test_a_drop_asks_first(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = commands(new_job(1), capsys, errors='dead_letter_topic = "dead"')
    made = run.json("hold", "add", "--key", "a")
    run.run("hold", "drop", made["id"], code=1)
    assert "to confirm, pass --yes" in run.notes
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert run.run("hold", "drop", made["id"], code=1) == "nothing was dropped\n"
    assert states(run) == [({"key": "a"}, "holding")]
    first = run.json("hold", "drop", made["id"], "--first", "--yes")
    again = run.json("hold", "drop", made["id"], "--first", "--yes")
    assert first["state"] == again["state"] == "drop-first"
    assert made["changed"] < first["changed"] < again["changed"]
    assert run.json("hold", "drop", made["id"], "--yes")["state"] == "dropping"
    assert states(run) == []
    assert "was dropped already" in run.refused("hold", "drop", made["id"], "--yes")


def test_ctrl_c_at_the_question_changes_nothing(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = commands(new_job(1), capsys)
    made = run.json("hold", "add", "--key", "a")

    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run("hold", "drop", made["id"])
    assert states(run) == [({"key": "a"}, "holding")]


def test_what_kafka_would_not_keep_is_not_held(
    new_job: JobFactory, topic: TopicFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(1)
    job.topic = topic(1, cleanup_policy="compact,delete")
    assert "is compacted" in commands(job, capsys).refused("hold", "add", "--key", "a")
    job.topic = topic(1, retention_ms="3600000")
    run = commands(job, capsys)
    told = run.refused("hold", "add", "--key", "a", "--for", "61m")
    assert "keeps records for 1h 0m (retention.ms), which is shorter than 1h 1m" in told
    assert run.json("hold", "list")["holds"] == []
    run.run("hold", "add", "--key", "a", "--for", "59m")
    run.run("hold", "add", "--key", "b")
    assert "keeps records for 1h 0m (retention.ms): release or drop them before" in run.notes


@pytest.mark.parametrize(
    ("sections", "words", "why"),
    [
        ({"records": 'key = ["id", "user"]'}, ["--key", "a"], "2 ordering keys (id, user)"),
        ({"records": 'key = "id"'}, ["--tenant", "a"], "set [records] tenant"),
        ({"pipeline": 'delivery = "at-least-once"'}, ["--key", "a"], "has no ledger"),
        ({}, [], "either --key or --tenant"),
        ({}, ["--key", "a", "--tenant", "b"], "either --key or --tenant"),
    ],
)
def test_a_hold_that_can_not_be_meant_is_refused(
    new_job: JobFactory,
    capsys: pytest.CaptureFixture[str],
    sections: dict[str, str],
    words: list[str],
    why: str,
) -> None:
    run = commands(new_job(1), capsys, **sections)
    assert why in run.refused("hold", "add", *words)


def test_the_first_record_needs_a_dead_letter_topic_to_go_to(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands(new_job(1), capsys)
    made = run.json("hold", "add", "--key", "a")
    assert "set [errors] dead_letter_topic" in run.refused("hold", "drop", made["id"], "--first")


def test_a_limit_is_replaced_without_a_gap_and_removed(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands(new_job(1), capsys)
    made = run.json("limit", "add", "--tenant", "app-7", "--rate", "100/s")
    told = run.run("limit", "add", "--tenant", "app-7", "--rate", "600/m", "--reason", "slower")
    assert f"limit {made['id']}: tenant app-7 may send 10/s (it was 100/s)" in told
    (listed,) = run.json("limit", "list")["limits"]
    assert (listed["id"], listed["rate"], listed["why"]) == (made["id"], 10.0, "slower")
    assert "10/s" in run.run("limit", "list")
    assert "there is no limit l-none" in run.refused("limit", "remove", "l-none")
    run.run("limit", "remove", "--tenant", "app-7")
    assert run.json("limit", "list")["limits"] == []


def test_looking_makes_no_topic(new_job: JobFactory, capsys: pytest.CaptureFixture[str]) -> None:
    job = new_job(1)
    run = commands(job, capsys)
    for words in (["hold", "list"], ["pause", "list"], ["limit", "list"], ["lag"]):
        run.run(*words)
    assert topic_id(job.bootstrap, control_topic_of(job.group.group)) is None
