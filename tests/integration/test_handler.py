"""Custom handlers: called in order by key, inside the transaction that the ledger is in."""

from __future__ import annotations

from textwrap import dedent

import orjson
import pytest

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real

HISTORY = """\
create table history (
    id bigserial primary key, account text, at_partition int, at_offset bigint, n bigint
);
create table calls (size int, accounts int);
"""
INSERT = "insert into history (account, at_partition, at_offset, n) values ($1, $2, $3, $4)"

APPEND = f"""\
import trio

INSERT = "{INSERT}"

async def apply(tx, records):
    for record in records:
        tx.queue(
            INSERT, record.key.decode(), record.partition, record.offset, record.document["n"]
        )
    accounts = len({{record.key for record in records}})
    await tx.execute("insert into calls values ($1, $2)", len(records), accounts)
"""


HANDLER = '[sink]\nhandler = "user_code:apply"\n'


def use_handler(job: Job, dsn: str, source: str, scope: str = "", **sections: str) -> None:
    """Put a handler's module beside the configuration, which is where it is looked for."""
    (job.directory / "user_code.py").write_text(dedent(source))
    job.write_config({"db0": (dsn, "")}, sink=HANDLER + scope, **sections)


@pytest.fixture
def history_dsn(database: DatabaseFactory) -> str:
    dsn = database()
    psql(dsn, HISTORY)
    return dsn


def history(dsn: str) -> dict[str, list[int]]:
    """Account → the numbers of its records in the order in which they were appended."""
    found: dict[str, list[int]] = {}
    for line in psql(dsn, "select account, n from history order by id").splitlines():
        account, n = line.split("|")
        found.setdefault(account, []).append(int(n))
    return found


def expected_history(job: Job) -> dict[str, list[int]]:
    """The same, as the topic has it."""
    wanted: dict[str, list[int]] = {}
    for records in job.log().values():
        for record in records:
            wanted.setdefault(record.key.decode(), []).append(orjson.loads(record.value)["n"])
    return wanted


def test_each_key_has_its_records_once_and_in_order(job: Job, history_dsn: str) -> None:
    use_handler(job, history_dsn, APPEND)
    job.produce(accounts.changes(3000, keys=50, seed=1))
    instance = job.start()
    job.wait_caught_up()
    assert history(history_dsn) == expected_history(job)
    assert psql(history_dsn, "select max(accounts) from calls") == "1", "a call has one key's run"
    assert instance.stop() == 0


def test_a_call_may_have_a_whole_batch(job: Job, history_dsn: str) -> None:
    use_handler(job, history_dsn, APPEND, scope='scope = "batch"')
    job.produce(accounts.changes(3000, keys=50, seed=2))
    job.start()
    job.wait_caught_up()
    assert history(history_dsn) == expected_history(job)
    assert int(psql(history_dsn, "select max(accounts) from calls")) > 1


def test_what_a_handler_fetches_has_what_it_queued_before(job: Job, account_dsn: str) -> None:
    source = """\
    READ = "select seen, total from accounts where id = $1"
    WRITE = "insert into accounts values ($1, $2, $3, $4, $5, '{}') on conflict (id) do update " \\
        "set seen = $2, total = $3, last = $4, at_offset = $5"

    async def apply(tx, records):
        for record in records:
            change = record.document
            row = await tx.fetchrow(READ, change["id"])
            seen, total = row or (0, 0)
            await tx.execute(
                WRITE, change["id"], seen + 1, total + change["amount"], change["n"], record.offset
            )
            assert await tx.fetchval("select seen from accounts where id = $1", change["id"]) \\
                == seen + 1
    """
    use_handler(job, account_dsn, source)
    job.produce(accounts.changes(600, keys=20, seed=3))
    job.start()
    job.wait_caught_up()
    wanted = {key: (row.seen, row.total) for key, row in accounts.model(job.log()).items()}
    found = {key: (row.seen, row.total) for key, row in accounts.stored(account_dsn).items()}
    assert found == wanted


def test_a_handler_that_fails_ends_the_program_with_one_message(job: Job, history_dsn: str) -> None:
    use_handler(
        job,
        history_dsn,
        "async def apply(tx, records):\n    raise RuntimeError('no such ' + 'tariff')\n",
    )
    job.produce(accounts.changes(1, keys=1, seed=4))
    instance = job.start()
    assert instance.wait() == 1
    (message,) = set(instance.errors())
    assert "no such tariff" not in instance.output, "it may quote a record"
    assert "the handler raised RuntimeError" in message
    assert "user_code.py, line 2" in message
    assert job.topic in message
    assert instance.output.count("Traceback") == 1, "where in the handler's code it arose"
    job.write_config({"db0": (history_dsn, "")}, sink=HANDLER, errors="details = true")
    again = job.start()
    assert again.wait() == 1
    assert "RuntimeError: no such tariff" in again.output, "where details are wanted"


def test_a_record_that_a_handler_rejects_is_a_dead_letter(
    job: Job, history_dsn: str, topic: TopicFactory
) -> None:
    source = APPEND.replace(
        "    for record in records:\n",
        "    for record in records:\n"
        "        if record.document['n'] == 7:\n"
        "            raise HandlerReject('seven is not wanted')\n",
    )
    source = "from pipeline import HandlerReject\n" + source
    dead = topic(1)
    use_handler(job, history_dsn, source, errors=f'dead_letter_topic = "{dead}"')
    job.produce(accounts.change(n % 3, n) for n in range(30))
    job.start()
    job.wait_caught_up()
    wanted = {
        account: [n for n in numbers if n != 7]
        for account, numbers in expected_history(job).items()
    }
    assert history(history_dsn) == wanted
    ((letter,),) = accounts.read_topic(job.bootstrap, dead).values()
    assert orjson.loads(letter.value)["n"] == 7
    headers = dict(letter.headers)
    assert b"seven is not wanted" in headers["__connect.errors.exception.message"]
    assert headers["__connect.errors.exception.class.name"] == b"HandlerReject"


def test_records_with_two_keys_are_in_order_in_both_histories(
    new_job: JobFactory, history_dsn: str
) -> None:
    source = """\
    INSERT = "insert into history (account, at_partition, at_offset, n) values ($1, 0, $2, $3)"

    async def apply(tx, records):
        for record in records:
            for key in (record.document["user"], record.document["device"]):
                await tx.execute(INSERT, key, record.offset, record.document["n"])
    """
    job = new_job(2)
    use_handler(job, history_dsn, source, records='key = ["user", "device"]')
    for partition in (0, 1):
        # A key is in one partition only: across partitions there is no order.
        job.produce(
            [
                (None, orjson.dumps({
                    "user": f"user-{partition}-{n % 7}", "device": f"device-{partition}-{n * n % 11}",
                    "n": n,
                }))
                for n in range(1500)
            ],
            partition,
        )  # fmt: skip
    job.start()
    job.wait_caught_up()
    wanted: dict[str, list[int]] = {}
    for records in job.log().values():
        for record in records:
            value = orjson.loads(record.value)
            for key in (value["user"], value["device"]):
                wanted.setdefault(key, []).append(value["n"])
    assert history(history_dsn) == wanted


def test_a_handler_that_is_not_there_is_named(job: Job, history_dsn: str) -> None:
    use_handler(job, history_dsn, "async def other(tx, records): ...\n")
    job.produce(accounts.changes(1, keys=1, seed=5))
    instance = job.start()
    assert instance.wait() == 2, "as `pipeline check` ends"
    (message,) = set(instance.errors())
    assert "user_code:apply" in message
