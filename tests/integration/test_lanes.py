"""Lanes on the real Kafka and Postgres: a locked row, an operator's hold, and instances that are killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.in_process import Commands
from tests.support.pipelines import JobFactory

pytestmark = pytest.mark.real

LIMITS = "max_buffered = 500\nmax_batch = 100\nlock_timeout = '60s'\nstatement_timeout = '60s'"
HOT = 0


@contextmanager
def locked(dsn: str) -> Iterator[None]:
    """Somebody else's transaction holds the hot key's row."""
    held = (
        "begin; select 'held' from accounts where id = 0 for update; select 'held', pg_sleep(600)"
    )
    command = ["psql", "-X", "-q", "-A", "-t", "-d", dsn, "-c", held]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield
        process.kill()
    psql(dsn, "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%'"
              " and pid <> pg_backend_pid()")  # fmt: skip


def rows_of(dsn: str, which: str) -> int:
    """How many records were applied to these rows."""
    return int(psql(dsn, f"select coalesce(sum(seen), 0) from accounts where {which}"))


def rows_of_others(dsn: str) -> int:
    return rows_of(dsn, f"id <> {HOT}")


def lanes(dsn: str) -> int:
    return int(psql(dsn, "select count(*) from pipeline.lanes where until_offset is null"))


def hot_and_others(hot: int, others: int, first: int) -> Iterator[accounts.Message]:
    """The hot key's records first, and then as many of others."""
    for n in range(first, first + hot):
        yield accounts.change(HOT, n)
    for n in range(first + hot, first + hot + others):
        yield accounts.change(1 + n % 50, n)


def test_a_locked_row_holds_up_no_other_key(new_job: JobFactory, account_dsn: str) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")}, limits=LIMITS)
    instance = job.start()
    job.produce(hot_and_others(1, 50, 0))
    job.wait_caught_up()
    with locked(account_dsn):
        job.wait_until(
            lambda: (
                psql(account_dsn, "select count(*) from pg_locks where mode = 'RowShareLock'")
                != "0"
            )
        )
        job.produce(hot_and_others(3000, 1000, 100))
        job.wait_until(lambda: rows_of_others(account_dsn) == 1050, "the others go on")
        job.wait_until(lambda: lanes(account_dsn) == 1, "the hot key has a lane")
        job.wait_until(lambda: instance.metric("pipeline_lane_records") > 1000)
    job.wait_caught_up()
    job.wait_until(lambda: lanes(account_dsn) == 0, "the lane is closed")
    assert accounts.differences(job.log(), account_dsn) == []
    job.produce(hot_and_others(100, 100, 5000))
    job.wait_until(lambda: accounts.differences(job.log(), account_dsn) == [])
    assert instance.stop() == 0


def test_a_held_key_waits_over_a_kill_and_is_released_over_another(
    new_job: JobFactory, account_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")}, limits=LIMITS)
    commands = Commands(job, capsys)
    instance = job.start()
    job.produce(hot_and_others(10, 100, 0))
    job.wait_caught_up()
    made = commands.json("hold", "add", "--key", str(HOT), "--reason", "bad row")
    first = count(100)

    def held() -> bool:
        job.produce([accounts.change(HOT, next(first))])
        return lanes(account_dsn) == 1

    job.wait_until(held, "the instance has heard of the hold")
    job.wait_caught_up()
    applied = rows_of(account_dsn, f"id = {HOT}")
    job.produce(hot_and_others(500, 500, 1000))
    job.wait_until(lambda: rows_of_others(account_dsn) == 600)
    instance.kill()
    job.produce(hot_and_others(500, 500, 2000))
    instance = job.start()
    job.wait_caught_up()
    assert (rows_of(account_dsn, f"id = {HOT}"), lanes(account_dsn)) == (applied, 1)
    commands.run("hold", "release", made["id"])
    job.wait_until(lambda: rows_of(account_dsn, f"id = {HOT}") > applied)
    instance.kill()
    instance = job.start()
    job.wait_until(lambda: lanes(account_dsn) == 0, "the lane is closed")
    assert accounts.differences(job.log(), account_dsn) == []
    assert instance.stop() == 0
