"""Records that Postgres will never accept, and tombstones: everything else goes on in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real

CHECKED = accounts.TABLE + "alter table accounts add constraint not_bad check (not marks ? 'bad');"

DELETING = accounts.SINK.replace("[sink]\n", '[sink]\ntombstone = "delete"\n').replace(
    'id = "id"', 'id = "@key"'
)


@pytest.fixture
def checked_dsn(database: DatabaseFactory) -> str:
    """The table of `accounts` where no row may be marked bad."""
    dsn = database()
    psql(dsn, CHECKED)
    return dsn


def letters(job: Job, topic: str) -> dict[int, Any]:
    """The dead letters by the offset they had."""
    (found,) = accounts.read_topic(job.bootstrap, topic).values()
    by_offset = {int(dict(letter.headers)["__connect.errors.offset"]): letter for letter in found}
    assert len(by_offset) == len(found), "no record is there twice"
    return by_offset


def bad(key: int) -> accounts.Message:
    """A record that the table's constraint refuses, whatever it is folded with."""
    value = b'{"id": %d, "one": 1, "amount": 1, "n": 0, "marks": {"bad": 1}}' % key
    return b"%d" % key, value


def with_poison() -> list[accounts.Message]:
    """Of 400 records four that can't be applied: two Postgres refuses, two can't be decoded."""
    messages = [accounts.change(n % 10, n) for n in range(400)]
    messages[13] = bad(3)
    messages[100] = (messages[100][0], b'{"id": 0, "one": 1, "amount": "many", "n": 100}')
    messages[200] = (messages[200][0], b"\xff not json")
    messages[300] = (messages[300][0], b"[1, 2]")
    return messages


def test_poison_records_are_dead_letters_and_all_others_apply_in_order(
    new_job: JobFactory, checked_dsn: str, topic: TopicFactory
) -> None:
    job, dead = new_job(1), topic(1)
    job.write_config({"db0": (checked_dsn, "")}, errors=f'dead_letter_topic = "{dead}"')
    job.produce(with_poison())
    instance = job.start()
    job.wait_caught_up()
    found = letters(job, dead)
    assert sorted(found) == [13, 100, 200, 300]
    (records,) = job.log().values()
    good = {0: [record for record in records if record.offset not in found]}
    assert accounts.differences(good, checked_dsn) == []
    for offset, letter in found.items():
        assert (letter.key, letter.value) == (records[offset].key, records[offset].value)
        assert int(dict(letter.headers)["pipeline.timestamp"]) == records[offset].timestamp
        headers = dict(letter.headers)
        assert headers["__connect.errors.topic"] == job.topic.encode()
        assert headers["__connect.errors.partition"] == b"0"
        assert headers["pipeline.group"] == job.group.group.encode()
    refused = dict(found[13].headers)
    assert refused["pipeline.sqlstate"] == b"23514"
    assert b"not_bad" in refused["__connect.errors.exception.message"]
    assert refused["__connect.errors.exception.class.name"] == b"CheckViolationError"
    assert b"JSON" in dict(found[200].headers)["__connect.errors.exception.message"]
    assert instance.stop() == 0


async def send_raw(job: Job, messages: list[tuple[Any, Any, list[Any]]]) -> None:
    """Send what Kafka allows and kafka-python's producer does not: null headers, nothing at all."""
    async with AIOKafkaProducer(bootstrap_servers=job.bootstrap) as producer:
        batch = producer.create_batch()
        for key, value, headers in messages:
            batch.append(key=key, value=value, headers=headers, timestamp=None)
        await (await producer.send_batch(batch, job.topic, partition=0))


def test_nulls_do_not_keep_a_record_from_the_dead_letters(
    new_job: JobFactory, checked_dsn: str, topic: TopicFactory
) -> None:
    job, dead = new_job(1), topic(1)
    job.write_config(
        {"db0": (checked_dsn, "")}, sink=DELETING, errors=f'dead_letter_topic = "{dead}"'
    )
    key, value = bad(1)
    asyncio.run(
        send_raw(job, [(key, value, [("trace", b"abc"), ("none", None)]), (None, None, [])])
    )
    job.start()
    job.wait_caught_up()
    found = letters(job, dead)
    assert found[0].headers[:2] == [("trace", b"abc"), ("none", b"")]
    assert dict(found[0].headers)["pipeline.nulls"] == b'["header:1:none"]'
    assert (found[1].key, found[1].value) == (None, b"")
    assert dict(found[1].headers)["pipeline.nulls"] == b'["value"]'


@pytest.mark.parametrize("value", ["refused", "undecodable"])
def test_without_a_dead_letter_topic_the_first_poison_record_ends_the_program(
    new_job: JobFactory, checked_dsn: str, value: str
) -> None:
    job = new_job(1)
    job.write_config({"db0": (checked_dsn, "")})
    messages = [accounts.change(n % 3, n) for n in range(30)]
    messages[13] = bad(1) if value == "refused" else (b"1", b"{")
    job.produce(messages)
    instance = job.start()
    assert instance.wait() == 1
    (message,) = set(instance.errors())
    assert f"{job.topic}-0 offset 13" in message
    assert ("not_bad" if value == "refused" else "JSON") in message
    assert "[errors] dead_letter_topic" in message
    assert "Traceback" not in instance.output
    assert job.group.committed()[0] <= 13
    assert job.group.members() == 0


def test_too_many_dead_letters_in_a_minute_end_the_program(
    new_job: JobFactory, checked_dsn: str, topic: TopicFactory
) -> None:
    job, dead = new_job(1), topic(1)
    job.write_config(
        {"db0": (checked_dsn, "")},
        errors=f'dead_letter_topic = "{dead}"\nmax_dead_letters_per_minute = 5',
    )
    job.produce([(b"1", b"no json")] * 20)
    instance = job.start()
    assert instance.wait() == 1
    (message,) = set(instance.errors())
    assert "more than 5 dead letters" in message
    assert len(letters(job, dead)) == 5
    # Raised, the limit lets the next run finish; nothing was lost and nothing is twice.
    job.write_config({"db0": (checked_dsn, "")}, errors=f'dead_letter_topic = "{dead}"')
    job.start()
    job.wait_caught_up()
    assert len(letters(job, dead)) == 20


def test_a_tombstone_deletes_and_what_follows_begins_anew(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "")}, sink=DELETING)
    messages: list[accounts.Message] = list(accounts.changes(2000, keys=40, seed=1))
    for place in range(150, 2000, 150):
        messages[place] = (messages[place - 1][0], None)
    messages += [(b"7", None), (b"8", None), accounts.change(8, 5000)]
    instance = job.start()
    with job.load(messages, 2000) as load:
        job.wait_until(lambda: load.reached(len(messages)))
    job.wait_caught_up()
    live: dict[int, list[Any]] = {}
    for partition, records in job.log().items():
        last_deleted = {r.key: r.offset for r in records if r.value is None}
        live[partition] = [r for r in records if r.offset > last_deleted.get(r.key, -1)]
    assert accounts.differences(live, account_dsn) == []
    assert psql(account_dsn, "select seen from accounts where id = 8") == "1"
    assert psql(account_dsn, "select count(*) from accounts where id = 7") == "0"
    assert instance.stop() == 0


def test_tombstones_that_are_ignored_count_as_done(new_job: JobFactory, account_dsn: str) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")})
    job.produce([accounts.change(1, 1), (b"1", None), (b"2", None)])
    job.start()
    job.wait_caught_up()
    assert accounts.stored(account_dsn).keys() == {1}
