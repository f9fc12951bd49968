"""What no retry mends: one message that a person can act on, and the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.local import Servers
from pipeline.local.ports import HOST, free_port
from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.instance import Instance
from tests.support.pgbouncer import NewPgBouncer
from tests.support.pipelines import Job
from tests.support.secured_postgres import PASSWORD, TlsPostgres
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


def refused(job: Job, capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of `run`, which is that of `check`; both end with exit code 2."""
    instance = job.start()
    assert instance.wait() == 2
    messages = list(dict.fromkeys(instance.errors()))
    assert "Traceback" not in instance.output
    assert main(["check", "--config", str(job.config)]) == 2
    mistakes = capsys.readouterr().err.partition("\n\nWarnings")[0]
    assert mistakes.splitlines() == [f"{job.config}: {each}" for each in messages]
    return "\n".join(messages)


def test_a_table_that_does_not_exist(
    job: Job, database: DatabaseFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    job.write_config({"db0": (database(), "")})
    message = refused(job, capsys)
    assert message == "sink: table public.accounts does not exist ([sink] table)"


def test_a_table_that_does_not_fit(
    job: Job, account_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    psql(account_dsn, "alter table accounts rename seen to seem")
    job.write_config({"db0": (account_dsn, "")})
    assert 'no column seen (did you mean "seem"?)' in refused(job, capsys)


@pytest.mark.parametrize("part", ["password", "user", "database"])
def test_an_address_that_is_refused(
    job: Job, tls_postgres: TlsPostgres, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    user, password, database = (
        f"not-{name}" if name == part else right
        for name, right in (("user", "app"), ("password", PASSWORD), ("database", "app"))
    )
    dsn = tls_postgres.tls_dsn(database, user=user, password=password)
    job.write_config({"db0": (dsn, "")})
    message = refused(job, capsys)
    host = f"{HOST}:{tls_postgres.port}"
    said = f'{part} "not-{part}"' if part == "database" else "password authentication failed"
    assert message.startswith(f"shards[db0].dsn: {host} can't be used: {said}")


def test_a_passfile_that_others_may_read(
    job: Job, account_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "passfile"
    place.touch(mode=0o644)
    job.write_config({"db0": (account_dsn, "")})
    text = job.config.read_text()
    job.config.write_text(text.replace("[[shards]]", f'[[shards]]\npassfile = "{place}"'))
    message = refused(job, capsys)
    assert message.endswith(f"passfile {place} may be read by others: chmod 0600 {place}")


def test_a_database_that_does_not_exist_behind_a_pooler(
    job: Job,
    servers: Servers,
    account_dsn: str,
    new_pgbouncer: NewPgBouncer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The pooler answers for the server, with the SQLSTATE of a broken protocol."""
    pooler = new_pgbouncer(servers.postgres, server_login_retry=1)
    job.write_config({"db0": (pooler.dsn(account_dsn) + "_not", "")})
    message = refused(job, capsys)
    assert message.startswith(f"shards[db0].dsn: {HOST}:{pooler.port} can't be used: ")


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
