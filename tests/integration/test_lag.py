"""``pipeline lag`` on a real Kafka: what waits, while nothing runs."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from pipeline.cli import main
from pipeline.operate import cluster
from tests.support import accounts
from tests.support.lags import commit, delete_below, send_aged, send_in_a_transaction
from tests.support.pipelines import Job, JobFactory

pytestmark = pytest.mark.real

DSN = "postgresql://nobody@127.0.0.1:1/none"
"""Nothing listens there, and nothing may ask."""


@attrs.frozen
class Lag:
    """What the command says."""

    whole: dict[str, Any]

    @property
    def messages(self) -> dict[int, int]:
        return {each["partition"]: each["message_lag"] for each in self.whole["partitions"]}

    @property
    def ages(self) -> dict[int, float]:
        return {each["partition"]: each["time_lag_seconds"] for each in self.whole["partitions"]}


def lag(job: Job, capsys: pytest.CaptureFixture[str]) -> Lag:
    assert main(["lag", "--config", str(job.config), "--json"]) == 0
    return Lag(json.loads(capsys.readouterr().out))


def configured(job: Job, **sections: str) -> Job:
    job.write_config({"db0": (DSN, "")}, **sections)
    return job


def test_a_group_that_never_ran_has_everything_to_do(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    job = configured(new_job(3))
    send_aged(job, 0, 5, 4, 3)
    send_aged(job, 2, 1)
    found = lag(job, capsys)
    assert found.messages == {0: 3, 1: 0, 2: 1}
    assert found.ages == {
        0: pytest.approx(5 * 3600, abs=120),
        1: 0,
        2: pytest.approx(3600, abs=120),
    }
    assert found.whole["total"]["message_lag"] == 4
    assert found.whole["total"]["time_lag_seconds"] == found.ages[0]
    assert found.whole["partitions"][0]["committed"] is None
    assert found.whole["group"] == job.group.group


def test_what_is_committed_does_not_wait(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    job = configured(new_job(2))
    send_aged(job, 0, 5, 4, 3)
    send_aged(job, 1, 2)
    commit(job, p0=2, p1=1)
    found = lag(job, capsys)
    assert found.messages == {0: 1, 1: 0}
    assert found.ages == {0: pytest.approx(3 * 3600, abs=120), 1: 0}


def test_retention_that_passed_the_watermark_is_not_counted(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    job = configured(new_job(1))
    send_aged(job, 0, 5, 4, 3, 2)
    commit(job, p0=1)
    delete_below(job, 0, 3)
    found = lag(job, capsys)
    assert found.messages == {0: 1}
    assert found.ages == {0: pytest.approx(2 * 3600, abs=120)}
    assert found.whole["partitions"][0]["start"] == 3


def test_offsets_that_hold_no_record_are_no_lag(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A transaction's end takes an offset, and no consumer ever sees a record there."""
    job = configured(new_job(1))
    send_in_a_transaction(job, 0)
    commit(job, p0=1)
    found = lag(job, capsys)
    assert found.messages == {0: 0}
    assert found.ages == {0: 0}


def test_latest_waits_for_nothing_before_its_first_commit(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    job = configured(new_job(1), kafka='auto_offset_reset = "latest"')
    send_aged(job, 0, 5, 4)
    assert lag(job, capsys).messages == {0: 0}


def test_the_table_fits_eighty_columns(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    configured(job)
    job.produce(accounts.changes(100, keys=10, seed=1))
    assert main(["lag", "--config", str(job.config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"group {job.group.group}"
    assert lines[1].split() == ["partition", "committed", "end", "message", "lag", "time", "lag"]
    assert len(lines) == 2 + 6 + 1
    assert lines[-1].split()[:2] == ["total", "100"]
    assert max(map(len, lines)) <= 80


def test_a_topic_that_is_missing_is_named(
    new_job: JobFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    job = configured(new_job(1))
    job.config.write_text(job.config.read_text().replace(job.topic, "no-such-topic"))
    assert main(["lag", "--config", str(job.config)]) == 2
    assert "there is no topic no-such-topic" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["lag", "dlq list", "rewind --to earliest"])
def test_a_kafka_that_is_away_is_named(
    new_job: JobFactory,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    job = configured(new_job(1), errors='dead_letter_topic = "dead"')
    job.config.write_text(job.config.read_text().replace(job.bootstrap, "127.0.0.1:1"))
    assert main([*command.split(), "--config", str(job.config)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("pipeline: Kafka at 127.0.0.1:1 can't be used: ")
    assert captured.out == ""
