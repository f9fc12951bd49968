"""``pipeline rewind`` on the real things: what is applied again, what is not, and never in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cli import rewind as command
from pipeline.errors import PipelineError
from pipeline.local.postgres import psql
from pipeline.operate import ledgers
from tests.support import accounts
from tests.support.pipelines import Job, JobFactory, account_database
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

Output = pytest.CaptureFixture[str]


def rewind(job: Job, to: str, *options: str) -> int:
    return main(["rewind", "--config", str(job.config), "--to", to, *options])


def run_until_caught_up(job: Job) -> None:
    instance = job.start()
    job.wait_caught_up()
    assert instance.stop() == 0


def seen(dsn: str) -> int:
    """How often records were applied, in all."""
    return int(psql(dsn, "select coalesce(sum(seen), 0) from accounts"))


def numbered(job: Job, count: int) -> None:
    """Records of one partition, each with a key and so a row of its own: the offset."""
    job.produce([accounts.change(n, n) for n in range(count)], partition=0)


def times_applied(dsn: str) -> dict[int, int]:
    """Offset → how often it was applied, for `numbered` records."""
    lines = psql(dsn, "select id, seen from accounts order by id").splitlines()
    return {int(key): int(times) for key, times in (line.split("|") for line in lines)}


def test_from_the_start_everything_is_applied_again_in_every_shard(
    job: Job, database: DatabaseFactory, capsys: Output
) -> None:
    first, second = account_database(database), account_database(database)
    job.write_config({"db0": (first, "0-2"), "db1": (second, "3-5")})
    job.produce(accounts.changes(600, keys=40, seed=1))
    run_until_caught_up(job)
    assert seen(first) + seen(second) == 600
    assert rewind(job, "earliest", "--yes") == 0
    out = capsys.readouterr().out
    assert "in all: up to 600 records applied again" in out
    assert "they count again in the columns merged with add: seen, total" in out
    assert "the ledger is set in shard db0\nthe ledger is set in shard db1\n" in out
    assert max(map(len, out.splitlines())) <= 100
    run_until_caught_up(job)
    assert seen(first) + seen(second) == 1200


def test_one_partition_from_an_offset(
    new_job: JobFactory, account_dsn: str, capsys: Output
) -> None:
    job = new_job(2)
    job.write_config({"db0": (account_dsn, "")})
    numbered(job, 20)
    job.produce([accounts.change(100 + n, n) for n in range(5)], partition=1)
    run_until_caught_up(job)
    assert rewind(job, "15", "--partition", "0", "--yes") == 0
    run_until_caught_up(job)
    expected = {n: 2 if n >= 15 else 1 for n in range(20)} | {100 + n: 1 for n in range(5)}
    assert times_applied(account_dsn) == expected
    assert f"{job.topic}-1" not in capsys.readouterr().out


def test_a_partition_that_never_ran_can_start_anywhere(
    new_job: JobFactory, account_dsn: str, capsys: Output
) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")})
    numbered(job, 20)
    assert rewind(job, "12", "--yes") == 0
    assert "up to 12 skipped for good" in capsys.readouterr().out
    run_until_caught_up(job)
    assert times_applied(account_dsn) == dict.fromkeys(range(12, 20), 1)


def applied_above(job: Job, dsn: str) -> None:
    """Bring it to: 20 records, 0 to 4 and 10 to 13 applied, the rest not; nothing runs."""
    job.write_config({"db0": (dsn, "")})
    numbered(job, 5)
    run_until_caught_up(job)
    job.produce([accounts.change(n, n) for n in range(5, 20)], partition=0)
    psql(dsn, "update pipeline.applied set offsets = '{[0,5),[10,14)}'")
    for n in range(10, 14):
        psql(dsn, f"insert into accounts values ({n}, 1, 1, {n}, {n}, '{{}}')")


def test_skipping_applies_nothing_twice(
    new_job: JobFactory, account_dsn: str, capsys: Output
) -> None:
    job = new_job(1)
    applied_above(job, account_dsn)
    assert rewind(job, "8", "--yes") == 0
    assert "up to 0 records applied again, up to 3 skipped for good" in capsys.readouterr().out
    run_until_caught_up(job)
    assert times_applied(account_dsn) == {n: 1 for n in range(20) if n not in (5, 6, 7)}


def test_going_back_applies_again_what_was_applied_out_of_order_too(
    new_job: JobFactory, account_dsn: str, capsys: Output
) -> None:
    job = new_job(1)
    applied_above(job, account_dsn)
    assert rewind(job, "3", "--yes") == 0
    assert "up to 6 records applied again" in capsys.readouterr().out
    run_until_caught_up(job)
    twice = {3, 4, 10, 11, 12, 13}
    assert times_applied(account_dsn) == {n: 2 if n in twice else 1 for n in range(20)}


def test_it_is_refused_while_an_instance_runs(
    new_job: JobFactory, account_dsn: str, capsys: Output
) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")})
    numbered(job, 5)
    instance = job.start()
    job.wait_caught_up()
    assert rewind(job, "earliest", "--yes") == 1
    assert f"group {job.group.group} is in use" in capsys.readouterr().err
    assert instance.stop() == 0
    assert job.group.committed() == {0: 5}
    assert rewind(job, "earliest", "--yes") == 0


def fail(*_: Any, **__: Any) -> Any:
    raise PipelineError("the cable was cut")


def test_cut_between_kafka_and_the_ledger_nothing_is_applied_twice_and_it_can_be_finished(
    new_job: JobFactory, account_dsn: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job(1)
    applied_above(job, account_dsn)
    with monkeypatch.context() as cut:
        cut.setattr(ledgers, "_reset", fail)
        assert rewind(job, "3", "--yes") == 1
    assert "To finish: pipeline rewind --to committed" in capsys.readouterr().err
    assert job.group.committed() == {0: 3}
    run_until_caught_up(job)
    assert times_applied(account_dsn) == dict.fromkeys(range(20), 1)
    with monkeypatch.context() as cut:
        cut.setattr(ledgers, "_reset", fail)
        assert rewind(job, "3", "--yes") == 1
    assert rewind(job, "committed", "--yes") == 0
    run_until_caught_up(job)
    assert times_applied(account_dsn) == {n: 1 if n < 3 else 2 for n in range(20)}


def test_an_instance_that_came_while_it_asked_is_found_out(
    new_job: JobFactory, account_dsn: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")})
    numbered(job, 5)
    run_until_caught_up(job)

    def run_meanwhile(*_: object) -> bool:
        numbered(job, 10)
        run_until_caught_up(job)
        return True

    monkeypatch.setattr(command, "confirmed", run_meanwhile)
    assert rewind(job, "earliest") == 1
    assert "was taken over by an instance meanwhile" in capsys.readouterr().err
    run_until_caught_up(job)
    assert times_applied(account_dsn) == {n: 2 if n < 5 else 1 for n in range(10)}


def test_former_owners_are_fenced(new_job: JobFactory, account_dsn: str) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")})
    numbered(job, 5)
    run_until_caught_up(job)
    epochs = "select writer, epoch from pipeline.ownership order by writer"
    before = psql(account_dsn, epochs).splitlines()
    assert rewind(job, "earliest", "--yes") == 0
    after = psql(account_dsn, epochs).splitlines()
    pairs = [(a.split("|"), b.split("|")) for a, b in zip(before, after, strict=True)]
    assert pairs
    assert all(int(b[1]) > int(a[1]) for a, b in pairs)


def test_without_a_ledger_the_group_alone_is_moved(new_job: JobFactory, account_dsn: str) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")}, pipeline='delivery = "at-least-once"')
    numbered(job, 6)
    run_until_caught_up(job)
    assert rewind(job, "2", "--yes") == 0
    run_until_caught_up(job)
    assert times_applied(account_dsn) == {n: 1 if n < 2 else 2 for n in range(6)}
    assert psql(account_dsn, "select to_regnamespace('pipeline') is null") == "t"


@pytest.fixture
def idle(new_job: JobFactory, account_dsn: str) -> Job:
    """Two partitions with ten records in the first; nothing ever ran."""
    job = new_job(2)
    job.write_config({"db0": (account_dsn, "0-1")})
    numbered(job, 10)
    return job


def test_a_time_is_the_first_record_from_then_on(idle: Job, capsys: Output) -> None:
    assert rewind(idle, "1h", "--yes") == 0
    assert "up to 0 skipped" in capsys.readouterr().out
    assert idle.group.committed() == {0: 0, 1: 0}
    assert rewind(idle, "2999-01-01T00:00", "--yes") == 0
    assert "up to 10 skipped" in capsys.readouterr().out
    assert idle.group.committed() == {0: 10, 1: 0}


def test_as_json_it_plans_and_with_yes_it_does(idle: Job, capsys: Output) -> None:
    planned = {"topic": idle.topic, "partition": 0, "from": 0, "to": 4, "applied_again": 0,
               "skipped": 4, "shard": "db0"}  # fmt: skip
    for options, done, committed in (([], False, 0), (["--yes"], True, 4)):
        assert rewind(idle, "4", "--partition", "0", "--json", *options) == 0
        found = json.loads(capsys.readouterr().out)
        assert found == {"group": idle.group.group, "done": done, "partitions": [planned]}
        assert idle.group.committed() == {0: committed, 1: 0}


@pytest.mark.parametrize(
    ("to", "options", "code", "message"),
    [
        ("11", ["--partition", "0"], 2, "offset 11 is not in the log, 0 to 10"),
        ("5", [], 2, "an offset means another record in each partition"),
        ("5", ["--partition", "7"], 2, "there is no partition 7"),
        ("5", ["--topic", "other"], 2, "other is not among the configured topics"),
        ("committed", [], 2, "the group has committed no offset there"),
        ("yesterday", [], 2, "'yesterday' is not a valid time"),
        ("earliest", [], 1, "to confirm, pass --yes"),
    ],
)
def test_what_it_refuses_changes_nothing(
    idle: Job, capsys: Output, to: str, options: list[str], code: int, message: str
) -> None:
    assert rewind(idle, to, *options) == code
    assert message in capsys.readouterr().err
    found: Callable[[], dict[int, int]] = idle.group.committed
    assert found() == {0: 0, 1: 0}


def test_a_database_that_is_away_is_named_before_anything_changes(
    idle: Job, capsys: Output
) -> None:
    idle.write_config({"db0": ("postgresql://nobody@127.0.0.1:1/none", "")})
    assert rewind(idle, "4", "--partition", "0", "--yes") == 1
    assert (
        "shards[db0].dsn: 127.0.0.1:1 can't be used: nothing listens there"
        in capsys.readouterr().err
    )
    assert idle.group.committed() == {0: 0, 1: 0}
