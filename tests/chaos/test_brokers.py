"""Three brokers, some of them broken under load: every record is applied once, or what was lost is told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import accounts
from tests.support.brokers import Cluster
from tests.support.pipelines import Job
from tests.support.servers import TopicFactory, unique_name

pytestmark = [pytest.mark.real, pytest.mark.chaos, pytest.mark.slow]

KEYS = 100
PER_SECOND = 400


@pytest.fixture
def cluster_job(
    brokers: Cluster, broker_topic: TopicFactory, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Job]:
    """A job of six partitions on three brokers."""
    job = Job(brokers.bootstrap, broker_topic(6), unique_name(request), tmp_path)
    yield job
    job.close()


def wait_for_progress(job: Job) -> None:
    """Wait until every partition has had more records applied than now."""
    before = job.group.committed()
    job.wait_until(
        lambda: all(job.group.committed()[p] > offset for p, offset in before.items()), "progress"
    )


def test_leaders_coordinators_and_restarts_change_nothing(
    brokers: Cluster, cluster_job: Job, account_dsn: str
) -> None:
    job = cluster_job
    job.write_config({"db0": (account_dsn, "")})
    instances = [job.start(), job.start()]
    with job.load(accounts.changes(1_000_000, KEYS, seed=1), PER_SECOND):
        wait_for_progress(job)
        leader = brokers.leader(job.topic, 0)
        leader.kill(signal.SIGKILL)
        brokers.wait_for_leader(job.topic, 0, other_than=leader)
        wait_for_progress(job)
        leader.start()
        brokers.wait_in_sync(job.topic)
        coordinator = brokers.coordinator(job.group.group)
        coordinator.stop()
        job.wait_until(
            lambda: brokers.coordinator(job.group.group) is not coordinator, "it has moved"
        )
        wait_for_progress(job)
        coordinator.start()
        brokers.wait_in_sync(job.topic)
        wait_for_progress(job)
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []
    assert [instance.stop() for instance in instances] == [0, 0]
    assert not any("topic" in line and "made anew" in line for line in job.tails().splitlines())


def test_a_log_that_was_cut_by_an_unclean_election_ends_the_program_with_the_way_out(
    brokers: Cluster, tmp_path: Path, account_dsn: str, request: pytest.FixtureRequest
) -> None:
    """New records have the offsets of those that were applied, and would be skipped as known."""
    name = unique_name(request)
    brokers.place_topic(
        name, {0: [2, 1]}, unclean_leader_election_enable="true", min_insync_replicas="1"
    )
    job = Job(brokers.bootstrap, name, name, tmp_path)
    try:
        job.write_config({"db0": (account_dsn, "")})
        job.produce([accounts.change(1, n) for n in range(10)])
        instance = job.start()

        def lose_five() -> None:
            job.produce([accounts.change(1, n) for n in range(10, 15)])
            job.wait_until(lambda: accounts.stored(account_dsn)[1].seen == 15, "applied")

        job.wait_until(lambda: 1 in accounts.stored(account_dsn), "the first are applied")
        brokers.cut_short(name, lose_five)
        job.produce([accounts.change(2, n) for n in range(20)])
        assert instance.wait() == 1
        (message,) = dict.fromkeys(instance.errors())
        assert f"pipeline rewind --topic {name} --partition 0 --to 10" in message
        assert accounts.stored(account_dsn)[1].seen == 15
        assert 2 not in accounts.stored(account_dsn), "nothing of the other log is applied"
    finally:
        job.close()
        brokers.heal()
        brokers.delete_topic(name)
