"""At least once: what was applied above the watermark is known after a crash, without a ledger."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.contracts import commit_metadata as metadata
from pipeline.local.postgres import psql
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

RECORDS = 200
STUCK = 20
"""The offset of the record that is not applied until a file says that it may be."""

HANDLER = """\
import os
import trio

async def apply(tx, records):
    for record in records:
        while record.offset == 20 and not os.path.exists("go"):
            await trio.sleep(0.05)
        await tx.execute("insert into applied_offsets values ($1)", record.offset)
"""


@pytest.fixture
def offsets_dsn(database: DatabaseFactory) -> str:
    dsn = database()
    psql(dsn, "create table applied_offsets (at bigint)")
    return dsn


@pytest.fixture
def stuck(new_job: JobFactory, offsets_dsn: str) -> Job:
    """A job whose record at `STUCK` waits; every record has a key of its own."""
    job = new_job(1)
    (job.directory / "user_code.py").write_text(HANDLER)
    job.write_config(
        {"db0": (offsets_dsn, "")},
        sink='[sink]\nhandler = "user_code:apply"',
        pipeline='delivery = "at-least-once"',
        limits="max_batch = 1",
    )
    job.produce([(b"%d" % n, b'{"n": %d}' % n) for n in range(RECORDS)])
    return job


def committed(job: Job) -> tuple[int, str]:
    """The group's offset in the only partition, and the text that was committed with it."""
    admin = KafkaAdminClient(bootstrap_servers=job.bootstrap)
    try:
        found = admin.list_group_offsets([job.group.group])[job.group.group]
    except KafkaError:  # a new cluster has no coordinator for some seconds
        return -1, ""
    finally:
        admin.close()
    return next(((each.offset, each.metadata) for each in found.values()), (-1, ""))


def applied(dsn: str) -> list[int]:
    lines = psql(dsn, "select at from applied_offsets order by at").splitlines()
    return [int(line) for line in lines]


def known(job: Job) -> set[int]:
    """The offsets above the watermark that the commit says are applied."""
    offset, text = committed(job)
    return metadata.unfold(text, offset)


def all_others_are_known(job: Job) -> bool:
    return known(job) == set(range(STUCK + 1, RECORDS))


def test_a_crash_repeats_nothing_that_the_commit_told_of(stuck: Job, offsets_dsn: str) -> None:
    first = stuck.start()
    stuck.wait_until(lambda: all_others_are_known(stuck), "all others are applied and committed")
    assert committed(stuck)[0] == STUCK
    first.kill()
    (stuck.directory / "go").touch()
    second = stuck.start()
    stuck.wait_caught_up()
    assert applied(offsets_dsn) == list(range(RECORDS))
    assert committed(stuck) == (RECORDS, "")
    assert second.stop() == 0


def test_what_is_known_outlives_a_second_crash(stuck: Job, offsets_dsn: str) -> None:
    stuck.start()
    stuck.wait_until(lambda: all_others_are_known(stuck), "all others are applied and committed")
    stuck.instances[0].kill()
    second = stuck.start()
    stuck.produce([(b"new", b'{"n": 200}')])
    stuck.wait_until(lambda: RECORDS in applied(offsets_dsn), "the new record is applied")
    assert second.running
    stuck.wait_until(
        lambda: known(stuck) == set(range(STUCK + 1, RECORDS + 1)),
        "the second instance commits what the first had applied, too",
    )
    second.kill()
    (stuck.directory / "go").touch()
    third = stuck.start()
    stuck.wait_caught_up()
    assert applied(offsets_dsn) == list(range(RECORDS + 1))
    assert third.stop() == 0


def test_a_stop_tells_what_is_applied_above_the_watermark(stuck: Job, offsets_dsn: str) -> None:
    stuck.write_config(
        {"db0": (offsets_dsn, "")},
        sink='[sink]\nhandler = "user_code:apply"',
        pipeline='delivery = "at-least-once"',
        limits='max_batch = 1\ndrain_deadline = "1s"',
    )
    first = stuck.start()
    stuck.wait_until(lambda: len(applied(offsets_dsn)) == RECORDS - 1, "all others are applied")
    assert first.stop() == 0
    assert all_others_are_known(stuck)
    (stuck.directory / "go").touch()
    stuck.start()
    stuck.wait_caught_up()
    assert applied(offsets_dsn) == list(range(RECORDS))
