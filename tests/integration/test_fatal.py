"""What no retry mends: one message that a person can act on, and the right exit code."""

from __future__ import annotations

import pytest

from pipeline.local import Servers
from pipeline.local.ports import free_port
from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.instance import Instance
from tests.support.pipelines import Job
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real


def fatal(instance: Instance, code: int = 1) -> str:
    """The one message of a program that ends with an exit code."""
    assert instance.wait() == code
    (message,) = dict.fromkeys(instance.errors())
    assert "Traceback" not in instance.output
    return message


def test_mistakes_in_the_configuration_are_a_line_each_and_exit_2(job: Job) -> None:
    job.write_config(
        {"db0": ("mysql://nowhere", "")}, limits="max_batches = 10", errors='backoff_initial = "x"'
    )
    instance = job.start()
    assert instance.wait() == 2
    lines = instance.output.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(str(job.config)) for line in lines)
    assert any("limits.max_batches: unknown key (did you mean" in line for line in lines)


def test_a_table_that_does_not_exist(job: Job, database: DatabaseFactory) -> None:
    job.write_config({"db0": (database(), "")})
    message = fatal(job.start(), 2)
    assert "shard db0: table public.accounts does not exist" in message


def test_a_table_that_does_not_fit(job: Job, account_dsn: str) -> None:
    psql(account_dsn, "alter table accounts rename seen to seem")
    job.write_config({"db0": (account_dsn, "")})
    instance = job.start()
    assert instance.wait() == 2
    assert 'no column seen (did you mean "seem"?)' in instance.output


def test_a_permission_that_is_missing(
    job: Job, account_dsn: str, servers: Servers, request: pytest.FixtureRequest
) -> None:
    role = "writer_" + job.topic[-8:]
    psql(account_dsn, f"create role {role} login; grant create on database "
         f"{account_dsn.rpartition('/')[2]} to {role}; grant select on accounts to {role}")  # fmt: skip
    request.addfinalizer(lambda: psql(servers.dsn, f"drop role {role}"))
    request.addfinalizer(lambda: psql(account_dsn, f"drop owned by {role} cascade"))
    job.write_config({"db0": (account_dsn.replace("postgres@", f"{role}@"), "")})
    job.produce(accounts.changes(10, keys=3, seed=1))
    message = fatal(job.start(), 2)
    assert "permission denied for table accounts" in message
    assert "42501" in message
    assert not any(job.group.committed().values())
    assert accounts.stored(account_dsn) == {}


def test_a_database_that_does_not_exist(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn + "_not", "")})
    message = fatal(job.start(), 2)
    assert "shard db0" in message
    assert "does not exist" in message


def test_a_partition_that_no_shard_covers(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "0-3")})
    instance = job.start()
    assert instance.wait() == 1
    assert "Traceback" not in instance.output
    assert (
        {"no shard covers partition 4", "no shard covers partition 5"}
        >= {message.partition(":")[0] for message in instance.errors()}
        != set()
    )


def test_kafka_that_does_not_answer(job: Job, account_dsn: str) -> None:
    job.bootstrap = f"127.0.0.1:{free_port()}"
    job.write_config({"db0": (account_dsn, "")}, kafka="bootstrap_timeout_ms = 2000")
    assert f"Kafka at {job.bootstrap} can't be used" in fatal(job.start())
