"""A membership that ends for good, one without partitions, rights that are missing, odd records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.acls import Acls
from tests.support.instance import Instance
from tests.support.pipelines import Job, JobFactory
from tests.support.raw_batches import RawRecord, produce_raw, raw_batch
from tests.support.secured_kafka import SecuredKafka, toml_lines
from tests.support.servers import TopicFactory, unique_name
from tests.support.topics import create_topic, delete_topic

pytestmark = pytest.mark.real


def ended(instance: Instance, code: int = 1) -> str:
    """The one message of an instance that ended by itself."""
    assert instance.wait() == code
    (message,) = dict.fromkeys(instance.errors())
    assert "Traceback" not in instance.output
    return message


@pytest.mark.parametrize("records", [0, 50])
def test_of_two_with_one_group_instance_id_the_older_ends(
    job: Job, account_dsn: str, records: int
) -> None:
    """Both went on, and took the partitions from each other every 3 s for ever."""
    job.write_config({"db0": (account_dsn, "")}, kafka='group_instance_id = "i1"')
    older = job.start()
    job.wait_until(lambda: older.probe("/readyz")[0] == 200, "the older one is ready")
    newer = job.start()
    job.produce(accounts.changes(records, keys=5, seed=1))
    assert "Give each instance an id of its own" in ended(older)
    job.wait_caught_up()
    assert newer.running
    assert accounts.stored(account_dsn) == accounts.model(job.log())
    assert newer.stop() == 0


def test_an_instance_without_partitions_is_ready_and_says_so(
    new_job: JobFactory, account_dsn: str
) -> None:
    """A rolling update that waits for the new pod before it ends the old one never finished."""
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")})
    first = job.start()
    job.wait_until(lambda: first.probe("/readyz") == (200, "ok\n"), "the first one is ready")
    spare = job.start()
    job.wait_until(lambda: spare.probe("/readyz")[0] == 200, "the spare one is ready")
    job.wait_until(
        lambda: (
            {each.probe("/readyz") for each in (first, spare)}
            == {(200, "ok\n"), (200, "ok\nno partitions: spare\n")}
        ),
        "one has the partition",
    )
    assert [first.stop(), spare.stop()] == [0, 0]


def test_a_topic_that_does_not_exist_is_told_and_waited_for(
    new_job: JobFactory, account_dsn: str
) -> None:
    job = new_job(1)
    delete_topic(job.bootstrap, job.topic)
    job.write_config({"db0": (account_dsn, "")})
    instance = job.start()
    reason = f"topic {job.topic} does not exist"
    job.wait_until(lambda: instance.probe("/readyz") == (503, reason + "\n"), "it says why")
    assert instance.output.count(reason) == 1
    create_topic(job.bootstrap, job.topic)
    job.produce([accounts.change(1, 0)])
    job.wait_until(lambda: 1 in accounts.stored(account_dsn), "it goes on")
    job.wait_until(lambda: instance.probe("/readyz")[0] == 200, "it is ready")
    assert instance.stop() == 0


@pytest.fixture
def secured_job(
    secured_kafka: SecuredKafka, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Job]:
    """A job whose user, ``app``, has no rights yet."""
    name = unique_name(request)
    secured_kafka.create_topic(name)
    options = secured_kafka.options("sasl_plaintext", "PLAIN")
    job = Job(str(options["bootstrap_servers"][0]), name, name, tmp_path)
    job.options = toml_lines(options)
    yield job
    for instance in job.instances:
        instance.kill()
    print(job.tails())
    secured_kafka.delete_topic(name)


def test_rights_that_are_missing_are_told_with_what_to_grant(
    secured_job: Job, acls: Acls, account_dsn: str
) -> None:
    """Without Describe it waited for ever, with one line of kafka-python's."""
    job = secured_job
    job.write_config({"db0": (account_dsn, "")}, kafka=job.options)
    acls.grant("app", "READ", group=job.topic)
    wanted = f"no permission: grant Read on topic {job.topic}"
    assert wanted in ended(job.start(), 2)
    acls.grant("app", "DESCRIBE", topic=job.topic)
    assert wanted in ended(job.start(), 2)
    acls.revoke("app")
    acls.grant("app", "READ", "DESCRIBE", topic=job.topic)
    assert "no permission: grant Read on group" in ended(job.start(), 2)


@pytest.mark.parametrize("on", ["group", "topic"])
def test_a_right_that_is_taken_away_ends_the_process_with_its_reason(
    secured_job: Job, acls: Acls, account_dsn: str, on: str
) -> None:
    """It went on as a zombie, live and ready, and fenced the rightful owner every 3 s."""
    job = secured_job
    job.write_config({"db0": (account_dsn, "")}, kafka=job.options)
    acls.grant("app", "READ", group=job.topic)
    acls.grant("app", "READ", "DESCRIBE", topic=job.topic)
    instance = job.start()
    assert wait_until(lambda: instance.probe("/readyz")[0] == 200, 60), instance.tail()
    acls.deny("app", "READ", **{on: job.topic})
    assert "no permission: grant Read" in ended(instance)


def test_a_header_name_that_is_not_utf8_stops_nothing(
    job: Job, account_dsn: str, topic: TopicFactory
) -> None:
    dead_letters = topic()
    job.write_config({"db0": (account_dsn, "")}, errors=f'dead_letter_topic = "{dead_letters}"')
    header = [(b"caf\xe9", b"x")]
    values = [value for _, value in (accounts.change(1, n) for n in range(3))]
    records = [RawRecord(value=value, key=b"1", headers=header) for value in values]
    records[1:1] = [RawRecord(value=b"no JSON", key=b"1", headers=header)]
    produce_raw(job.bootstrap, job.topic, 0, raw_batch(records, "gzip"))
    instance = job.start()
    job.wait_until(lambda: instance.metric("pipeline_records_applied_total") == 4, "all are done")
    assert accounts.stored(account_dsn)[1].seen == 3
    (letter,) = accounts.read_topic(job.bootstrap, dead_letters)[0]
    assert ("caf\\udce9", b"x") in letter.headers
    assert instance.stop() == 0
