"""Postgres comes back with fewer commits than it acknowledged: what was lost is applied again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.pipelines import Job
from tests.support.postgres_servers import NewPostgres
from tests.support.standby import Failover

pytestmark = pytest.mark.real


def right(job: Job, dsn: str) -> Callable[[], bool]:
    """Whether every row is what the topic says."""
    return lambda: accounts.differences(job.log(), dsn) == []


def again(job: Job) -> float:
    """How many records the instances applied again."""
    return sum(
        sum(instance.by_partition("pipeline_reapplied_total").values())
        for instance in job.instances
    )


def test_a_standby_that_was_behind_is_promoted_while_nothing_is_written(
    job: Job, failover: Failover
) -> None:
    """Lag was 0 and stayed 0; the records that the standby had not got were gone for good."""
    dsn = failover.dsn()
    instance = job.start_on(dsn)
    job.produce(accounts.changes(500, keys=50, seed=1))
    job.wait_caught_up()
    failover.standby.wait_caught_up()
    failover.standby.pause_replication()
    job.produce(accounts.changes(40, keys=50, seed=2, first=500))
    job.wait_caught_up()
    failover.fail_over()
    job.wait_until(right(job, dsn), "every row is right again")
    assert again(job) == 40
    assert "the database came back with fewer commits than it had acknowledged" in instance.output
    assert instance.stop() == 0


def test_a_standby_that_was_behind_is_promoted_under_load(job: Job, failover: Failover) -> None:
    dsn = failover.dsn()
    instance = job.start_on(dsn)
    with job.load(accounts.changes(100_000, keys=300, seed=3), 500) as load:
        job.wait_until(lambda: load.reached(1000) and "assigned" in instance.output)
        job.wait_until(lambda: psql(dsn, "select count(*) from accounts") != "0")
        failover.standby.pause_replication()
        sent = load.sent
        job.wait_until(lambda: load.reached(sent + 1000))
        failover.fail_over()
        sent = load.sent
        job.wait_until(lambda: load.reached(sent + 500))
    job.wait_caught_up()
    job.wait_until(right(job, dsn), "every row is right again")
    assert again(job) > 0
    assert instance.stop() == 0


def test_a_base_backup_is_restored_while_no_instance_runs(
    job: Job, new_postgres: NewPostgres
) -> None:
    """The next instance goes by the ledger, which went back with the data, and not by Kafka."""
    server = new_postgres()
    dsn = server.create_database("accounts")
    first = job.start_on(dsn)
    job.produce(accounts.changes(300, keys=50, seed=4))
    job.wait_caught_up()
    backup = server.base_backup()
    job.produce(accounts.changes(200, keys=50, seed=5, first=300))
    job.wait_caught_up()
    assert first.stop() == 0
    server.restore(backup)
    job.start()
    job.wait_until(right(job, dsn), "every row is right again")
    job.wait_until(lambda: again(job) == 200)


def test_a_restart_that_loses_nothing_applies_nothing_again(
    job: Job, new_postgres: NewPostgres
) -> None:
    server = new_postgres()
    dsn = server.create_database("accounts")
    instance = job.start_on(dsn)
    job.produce(accounts.changes(300, keys=50, seed=6))
    job.wait_caught_up()
    server.crash()
    server.start()
    job.produce(accounts.changes(300, keys=50, seed=7, first=300))
    job.wait_caught_up()
    job.wait_until(right(job, dsn), "every row is right")
    assert again(job) == 0
    assert instance.stop() == 0
