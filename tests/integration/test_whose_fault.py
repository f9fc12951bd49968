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
        '{"id": "personal", "v": "a", "s": "x"}',
    )
    instance = job.start()
    job.wait_caught_up()
    assert rows(dsn) == ["1", "4"]
    (found,) = accounts.read_topic(job.bootstrap, dead).values()
    states = [dict(letter.headers)["pipeline.sqlstate"] for letter in found]
    assert sorted(states) == [b"", b"42601", b"AB001"]
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


MISTAKES = {
    "renamed": ("alter table t rename v to w", "alter table t rename w to v"),
    "another type": ("alter table t drop v", "alter table t add v bytea"),
    "no longer allowed": ("revoke all on t from app", "grant all on t to app"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_shard_that_was_stopped_works_again_by_itself_when_it_is_mended(
    new_job: JobFactory, database: DatabaseFactory, dsn: str, mistake: str
) -> None:
    other = database()
    psql(other, TABLE)
    ruin, mend = MISTAKES[mistake]
    role = f"app{dsn.rpartition('/')[2]}"
    for server in (dsn, other):
        psql(server, "alter table t drop s")
    ruin, mend = (text.replace("app", role) for text in (ruin, mend))
    psql(dsn, f"create role {role} login; grant all on t to {role}; grant create on database "
        f"{dsn.rpartition('/')[2]} to {role}")  # fmt: skip
    as_role = dsn.replace("postgresql://postgres@", f"postgresql://{role}@")
    assert as_role != dsn
    job = new_job(2)
    sink = SINK.replace('s = "s"\n', "")
    job.write_config({"db0": (as_role, "0"), "db1": (other, "1")}, sink=sink)
    for partition in (0, 1):
        job.produce([(b"1", b'{"id": 1, "v": "\\\\x61"}')], partition)
    instance = job.start()
    job.wait_caught_up()
    psql(dsn, ruin)
    for partition in (0, 1):
        job.produce([(b"2", b'{"id": 2, "v": "\\\\x62"}')], partition)
    job.wait_until(lambda: "shard db0 has stopped" in instance.output)
    job.wait_caught_up([1])
    assert rows(other) == ["1", "2"]
    assert "shard db0 is stopped: " in instance.probe("/readyz")[1]
    psql(dsn, mend)
    job.wait_caught_up()
    assert rows(dsn) == ["1", "2"]
    assert "shard db0 works again" in instance.output
