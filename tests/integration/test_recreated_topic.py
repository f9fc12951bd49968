"""A topic that is deleted and made anew under a running pipeline, or whose log moves under it."""

from __future__ import annotations

import signal

import pytest

from tests.support import accounts
from tests.support.instance import Instance
from tests.support.pipelines import Job, JobFactory
from tests.support.topics import add_partitions, delete_records, log_bounds, recreate_topic

pytestmark = pytest.mark.real


def start_with(job: Job, dsn: str, records: int, **sections: str) -> Instance:
    """An instance that has applied so many records of key 1, of one each."""
    job.write_config({"db0": (dsn, "")}, **sections)
    job.produce(changes(0, records), partition=0)
    instance = job.start()
    job.wait_until(lambda: seen(dsn, 1) == records, "the first records are applied")
    return instance


def changes(first: int, end: int, key: int = 1) -> list[accounts.Message]:
    return [accounts.change(key, n) for n in range(first, end)]


def seen(dsn: str, key: int) -> int:
    row = accounts.stored(dsn).get(key)
    return 0 if row is None else row.seen


@pytest.mark.parametrize("records", [5, 30])
def test_a_topic_made_anew_while_an_instance_does_not_look_is_read_from_its_start(
    new_job: JobFactory, account_dsn: str, records: int
) -> None:
    """Below the old position records were dropped as known, above it they were taken for the old ones."""
    job = new_job(1)
    instance = start_with(job, account_dsn, 20)
    instance.signal(signal.SIGSTOP)
    recreate_topic(job.bootstrap, job.topic)
    job.produce(changes(0, records, key=2), partition=0)
    instance.signal(signal.SIGCONT)
    job.wait_until(lambda: seen(account_dsn, 2) >= records, "the new topic's records are applied")
    job.wait_until(
        lambda: instance.by_partition("pipeline_message_lag").get(0) == 0.0, "no lag is left"
    )
    assert (seen(account_dsn, 1), seen(account_dsn, 2)) == (20, records)
    assert f"topic {job.topic} was deleted and made anew" in instance.output
    assert instance.metric("pipeline_log_changes_total") >= 1
    assert instance.stop() == 0
    again = job.start()
    job.produce(changes(0, 1, key=3), partition=0)
    job.wait_until(lambda: seen(account_dsn, 3) == 1, "a restarted instance goes on")
    assert (seen(account_dsn, 1), seen(account_dsn, 2)) == (20, records)
    assert again.stop() == 0


def test_a_topic_made_anew_under_load_loses_nothing_of_the_new_one(
    new_job: JobFactory, account_dsn: str
) -> None:
    job = new_job(3)
    instance = start_with(job, account_dsn, 300)
    recreate_topic(job.bootstrap, job.topic, partitions=3)
    for partition in range(3):
        job.produce(changes(0, 400, key=2 + partition), partition=partition)
    job.wait_until(
        lambda: all(seen(account_dsn, key) >= 400 for key in (2, 3, 4)), "all of the new topic"
    )
    assert [seen(account_dsn, key) for key in (1, 2, 3, 4)] == [300, 400, 400, 400]
    assert instance.stop() == 0


@pytest.mark.parametrize("policy", ["latest", "earliest", "none"])
def test_what_retention_took_is_told_and_all_that_is_left_is_applied(
    new_job: JobFactory, account_dsn: str, policy: str
) -> None:
    """kafka-python's own policy skipped to the end by "latest", and stood still by "none"."""
    job = new_job(1)
    setting = f'auto_offset_reset = "{policy}"'
    instance = start_with(job, account_dsn, 1, kafka='auto_offset_reset = "earliest"')
    assert instance.stop() == 0
    job.write_config({"db0": (account_dsn, "")}, kafka=setting)
    instance = job.start()
    job.produce(changes(1, 2), partition=0)
    job.wait_until(lambda: seen(account_dsn, 1) == 2, "it runs")
    instance.signal(signal.SIGSTOP)
    job.produce(changes(2, 3), partition=0)  # answers the fetch that is under way
    job.produce(changes(3, 22), partition=0)
    delete_records(job.bootstrap, job.topic, {0: 12})
    instance.signal(signal.SIGCONT)
    job.produce(changes(22, 23), partition=0)
    job.wait_until(lambda: seen(account_dsn, 1) >= 14, "what is left is applied")
    assert log_bounds(job.bootstrap, job.topic) == {0: (12, 23)}
    assert seen(account_dsn, 1) == 3 + 11
    assert (
        f"{job.topic}-0: the records from offset 3 up to 12 were deleted by Kafka's retention "
        "before they were applied"
    ) in instance.output
    assert instance.by_partition("pipeline_records_lost_total") == {0: 9.0}
    assert instance.stop() == 0


def test_partitions_that_are_added_are_read_within_seconds(
    new_job: JobFactory, account_dsn: str
) -> None:
    """It took as long as kafka-python's metadata may be old."""
    job = new_job(1)
    instance = start_with(job, account_dsn, 1, kafka="metadata_max_age_ms = 300000")
    add_partitions(job.bootstrap, job.topic, 3)
    job.produce(changes(0, 5, key=2), partition=2)
    job.wait_until(lambda: seen(account_dsn, 2) == 5, "the added partition is read")
    assert instance.stop() == 0
