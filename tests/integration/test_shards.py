"""Partitions and the databases that they write to: a dead one stops its own partitions only."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local import Postgres
from pipeline.local.postgres import create_database, psql
from tests.support import accounts
from tests.support.pipelines import Job
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

FIRST, SECOND = (0, 1, 2), (3, 4, 5)


@pytest.fixture(scope="module")
def other_server() -> Iterator[Postgres]:
    """A Postgres that a test may stop without harm to anybody else."""
    place = Path(tempfile.mkdtemp(prefix="pipeline-test-"))
    place.chmod(0o711)
    server = Postgres(place / "postgres", remove=True)
    server.start()
    yield server
    server.close()
    shutil.rmtree(place)


@pytest.fixture
def other_dsn(other_server: Postgres, database: DatabaseFactory) -> str:
    """A database with the table of `accounts` on the other server."""
    other_server.start()
    name = database().rpartition("/")[2]  # a name of this test's own
    dsn = create_database(other_server.dsn, name)
    psql(dsn, accounts.TABLE)
    return dsn


def check(job: Job, partitions: tuple[int, ...], dsn: str) -> None:
    """The database has what the records on its partitions make, and nothing else."""
    log = job.log()
    assert accounts.differences({partition: log[partition] for partition in partitions}, dsn) == []


def test_each_partition_writes_to_its_own_database(
    job: Job, account_dsn: str, other_dsn: str
) -> None:
    job.write_config({"db0": (account_dsn, "0-2"), "db1": (other_dsn, "3-5")})
    job.produce(accounts.changes(4000, keys=200, seed=1))
    instance = job.start()
    job.wait_caught_up()
    check(job, FIRST, account_dsn)
    check(job, SECOND, other_dsn)
    assert instance.stop() == 0


def test_a_database_that_is_dead_from_the_start_stops_only_its_partitions(
    job: Job, account_dsn: str, other_server: Postgres, other_dsn: str
) -> None:
    other_server.stop()
    job.write_config({"db0": (account_dsn, "0-2"), "db1": (other_dsn, "3-5")})
    job.produce(accounts.changes(4000, keys=200, seed=2))
    instance = job.start()
    job.wait_caught_up(FIRST)
    job.wait_until(lambda: "shard db1 is away" in instance.output)
    check(job, FIRST, account_dsn)
    assert not any(job.group.committed()[partition] for partition in SECOND)
    other_server.start()
    job.wait_caught_up()
    check(job, SECOND, other_dsn)
    assert instance.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_database_that_dies_under_load_stops_only_its_partitions(
    job: Job, account_dsn: str, other_server: Postgres, other_dsn: str, number: int
) -> None:
    job.write_config({"db0": (account_dsn, "0-2"), "db1": (other_dsn, "3-5")})
    instance = job.start()
    with job.load(accounts.changes(100_000, keys=200, seed=3), 1500) as load:
        job.wait_until(lambda: all(job.group.committed().values()))
        if number == signal.SIGKILL:
            other_server.kill(signal.SIGKILL)
        else:
            other_server.stop()
        job.wait_until(lambda: "shard db1 is away" in instance.output)
        sent = load.sent
        job.wait_until(lambda: load.reached(sent + 2000))
        load.stop()
        job.wait_caught_up(FIRST)
        check(job, FIRST, account_dsn)
        assert not job.group.caught_up(SECOND)
    other_server.start()
    job.wait_caught_up()
    check(job, SECOND, other_dsn)
    assert instance.stop() == 0


def test_with_a_dead_database_the_program_still_ends_cleanly(
    job: Job, account_dsn: str, other_server: Postgres, other_dsn: str
) -> None:
    job.write_config(
        {"db0": (account_dsn, "0-2"), "db1": (other_dsn, "3-5")}, limits='drain_deadline = "1s"'
    )
    instance = job.start()
    with job.load(accounts.changes(100_000, keys=200, seed=4), 1500):
        job.wait_until(lambda: all(job.group.committed().values()))
        other_server.kill(signal.SIGKILL)
        job.wait_until(lambda: "shard db1 is away" in instance.output)
        assert instance.stop() == 0
        assert job.group.members() == 0
    other_server.start()
    job.start()
    job.wait_caught_up()
    check(job, FIRST, account_dsn)
    check(job, SECOND, other_dsn)
