"""The main job on the real things: what ends up in Postgres is what the topic says."""

from __future__ import annotations

import pytest

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.pipelines import Job

pytestmark = pytest.mark.real


def check(job: Job, dsn: str) -> None:
    """Every row is what the records on the topic make."""
    assert accounts.differences(job.log(), dsn) == []


def test_steady_load(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "")})
    job.produce(accounts.changes(5000, keys=300, seed=1))
    instance = job.start()
    with job.load(accounts.changes(5000, keys=300, seed=2, first=5000), 2500) as load:
        job.wait_until(lambda: load.reached(5000))
    job.wait_caught_up()
    check(job, account_dsn)
    assert instance.stop() == 0


def test_at_least_once_without_faults_applies_each_record_once(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "")}, pipeline='delivery = "at-least-once"')
    job.produce(accounts.changes(3000, keys=100, seed=3))
    instance = job.start()
    job.wait_caught_up()
    check(job, account_dsn)
    assert instance.stop() == 0
    assert psql(account_dsn, "select to_regnamespace('pipeline') is null") == "t"


def test_two_instances_share_the_partitions(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "")})
    first, second = job.start(), job.start()
    with job.load(accounts.changes(6000, keys=300, seed=4), 2000) as load:
        job.wait_until(lambda: "assigned" in first.output and "assigned" in second.output)
        job.wait_until(lambda: load.reached(6000))
    job.wait_caught_up()
    check(job, account_dsn)
    assert [first.stop(), second.stop()] == [0, 0]


@pytest.mark.slow
def test_instances_join_and_leave_during_load(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "")})
    first = job.start()
    with job.load(accounts.changes(100_000, keys=300, seed=5), 1500) as load:
        job.wait_until(lambda: load.reached(1000) and "assigned" in first.output)
        second = job.start()
        job.wait_until(lambda: "assigned" in second.output)
        third = job.start()
        job.wait_until(lambda: "assigned" in third.output)
        assert second.stop() == 0
        assert first.stop() == 0
        sent = load.sent
        job.wait_until(lambda: load.reached(sent + 1000))
    job.wait_caught_up()
    check(job, account_dsn)
    assert third.stop() == 0
