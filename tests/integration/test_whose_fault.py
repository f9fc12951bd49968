"""Errors of a real Postgres whose SQLSTATE does not say whose fault they are."""

from __future__ import annotations

import pytest

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real

TABLE = """
create table t (id int primary key, v text, s tsvector);
create function refuse() returns trigger language plpgsql as $$
begin
    if new.v like 'bad%' then raise exception 'no %', new.v using errcode = 'AB001'; end if;
    return new;
end $$;
create trigger refuse before insert or update on t for each row execute function refuse();
"""
SINK = """
[sink]
table = "public.t"
primary_key = ["id"]
[sink.columns]
id = "id"
v = "v"
s = "s"
"""


def rows(dsn: str) -> list[str]:
    return psql(dsn, "select id from t order by id").split()


@pytest.fixture
def dsn(database: DatabaseFactory) -> str:
    made = database()
    psql(made, TABLE)
    return made


def produce(job: Job, *records: str) -> None:
    job.produce((b"%d" % n, text.encode()) for n, text in enumerate(records))


def test_a_bad_value_is_a_dead_letter_whatever_its_sqlstate(
    new_job: JobFactory, dsn: str, topic: TopicFactory
) -> None:
    job, dead = new_job(1), topic(1)
    job.write_config({"db0": (dsn, "")}, sink=SINK, errors=f'dead_letter_topic = "{dead}"')
    produce(
        job,
        '{"id": 1, "v": "a", "s": "x"}',
        '{"id": 2, "v": "a", "s": "note: call"}',
        '{"id": 3, "v": "bad-personal", "s": "x"}',
        '{"id": 4, "v": "a", "s": "x"}',
    )
    instance = job.start()
    job.wait_caught_up()
    assert rows(dsn) == ["1", "4"]
    (found,) = accounts.read_topic(job.bootstrap, dead).values()
    states = [dict(letter.headers)["pipeline.sqlstate"] for letter in found]
    assert sorted(states) == [b"42601", b"AB001"]
    assert "personal" not in instance.output
    assert all(b"personal" not in value for letter in found for _, value in letter.headers)


def test_a_batch_that_is_slower_than_the_timeout_is_cut(new_job: JobFactory, dsn: str) -> None:
    psql(
        dsn,
        "create function slow() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.02); return new; end $$; "
        "create trigger slow before insert on t for each row execute function slow();",
    )
    job = new_job(1)
    job.write_config({"db0": (dsn, "")}, sink=SINK, limits='statement_timeout = "1s"')
    produce(job, *(f'{{"id": {n}, "v": "a", "s": "x"}}' for n in range(200)))
    job.start()
    job.wait_caught_up()
    assert len(rows(dsn)) == 200
