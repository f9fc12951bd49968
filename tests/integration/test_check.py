"""`pipeline check` against real servers: what it finds, and that it changes nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import orjson
import pytest
from kafka import KafkaConsumer
from kafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.local import Servers
from pipeline.local.ports import free_port
from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.pgbouncer import NewPgBouncer
from tests.support.pipelines import PATIENCE, ROOT, Job
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real

CONFIG = """\
[pipeline]
name = "{name}"

[kafka]
bootstrap_servers = ["{bootstrap}"]
topics = ["{topic}"]

[records]
key = "id"
{records}

{sink}

[[shards]]
name = "db0"
dsn = "{dsn}"

{errors}
"""
LEDGER_TABLES = "select count(*) from pg_tables where schemaname = 'pipeline'"
ROLE = "check_writer"
SCHEMA_RIGHTS = f"""\
grant usage on schema pipeline to {ROLE};
grant select, insert, update, delete on all tables in schema pipeline to {ROLE};
"""


@pytest.fixture
def dsn(database: DatabaseFactory) -> str:
    made = database()
    psql(made, accounts.TABLE)
    return made


@pytest.fixture
def writer(dsn: str) -> Iterator[str]:
    """The same database as a role that owns nothing there."""
    psql(dsn, f"create role {ROLE} login")
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    yield urlunsplit(parts._replace(netloc=f"{ROLE}@{host}"))
    psql(dsn, f"drop owned by {ROLE}; drop role {ROLE}")


def write_config(directory: Path, bootstrap: str, topic: str, dsn: str, **parts: str) -> Path:
    path = directory / "pipeline.toml"
    given = {"name": topic, "sink": accounts.SINK, "errors": "", "records": "", **parts}
    path.write_text(CONFIG.format(bootstrap=bootstrap, topic=topic, dsn=dsn, **given))
    return path


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command; it ends by itself long before the patience does."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "check", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_plan_is_shown_and_nothing_is_changed(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    name = topic(6)
    done = check("--config", write_config(tmp_path, servers.bootstrap, name, dsn))
    assert (done.returncode, done.stderr) == (0, "")
    assert "  0-5         db0    " in done.stdout
    assert "upsert into public.accounts, primary key (id)" in done.stdout
    assert "db0: will be created by the first run" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert psql(dsn, LEDGER_TABLES) == "0"
    with servers.kafka.admin() as admin:
        assert name not in {group["group_id"] for group in admin.list_groups()}


def test_the_plan_says_how_the_database_is_reached(
    servers: Servers,
    topic: TopicFactory,
    dsn: str,
    new_pgbouncer: NewPgBouncer,
    tmp_path: Path,
) -> None:
    pooled = new_pgbouncer(servers.postgres, default_pool_size=1).dsn(dsn)
    name = topic(1)
    hosts = dsn.replace("@127.0.0.1", f"@127.0.0.1:{free_port()},127.0.0.1")
    for address, way in ((dsn, "directly"), (pooled, "by a pooler"), (hosts, "directly, 127.0")):
        config = write_config(tmp_path, servers.bootstrap, name, address)
        config.write_text(
            config.read_text().replace(
                "[[shards]]",
                '[[shards]]\nsearch_path = "app, public"\nsynchronous_commit = "off"',
            )
        )
        done = check("--config", config)
        assert (done.returncode, done.stderr) == (0, "")
        sessions = done.stdout.partition("\nSessions\n")[2].partition("\n\n")[0]
        assert f" {way}" in sessions
        assert "app, public" in sessions
        assert 'synchronous_commit: "off": a crash of the server' in " ".join(done.stdout.split())
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert ("the pooler decides" in done.stdout) is (address == pooled)


def test_mistakes_on_both_sides_are_told_at_once(
    servers: Servers, database: DatabaseFactory, tmp_path: Path
) -> None:
    errors = '[errors]\ndead_letter_topic = "no_such.dlq"'
    config = write_config(tmp_path, servers.bootstrap, "no_such", database(), errors=errors)
    done = check("--config", config)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f'{config}: kafka.topics: topic "no_such" does not exist: create it',
        f'{config}: errors.dead_letter_topic: topic "no_such.dlq" does not exist: create it',
        f"{config}: sink: table public.accounts does not exist ([sink] table)",
    ]


def test_servers_that_are_not_there(tmp_path: Path) -> None:
    config = write_config(tmp_path, "127.0.0.1:1", "sessions", "postgresql://a@127.0.0.1:1/b")
    done = check("--config", config)
    assert done.returncode == 2
    assert "127.0.0.1:1 can't be used: no broker answers" in done.stderr
    assert "127.0.0.1:1 can't be used: nothing listens there" in done.stderr


def test_servers_that_accept_and_never_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        config = write_config(tmp_path, address, "sessions", f"postgresql://a@{address}/b")
        done = check("--config", config)
    assert done.returncode == 2
    assert f"{address} can't be used: no broker answers" in done.stderr
    assert f"{address} can't be used: no answer within" in done.stderr


def test_a_stopped_postgres_is_named(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    if not servers.owns_postgres:
        pytest.skip("Postgres is not ours to stop")
    config = write_config(tmp_path, servers.bootstrap, topic(), dsn)
    servers.postgres.stop()
    try:
        done = check("--config", config)
    finally:
        servers.postgres.start()
    assert done.returncode == 2
    assert "shards[db0].dsn" in done.stderr
    assert check("--config", config).returncode == 0


def test_a_role_is_told_which_rights_it_needs(
    servers: Servers, topic: TopicFactory, dsn: str, writer: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, servers.bootstrap, topic(), writer)
    done = check("--config", config)
    assert done.returncode == 2
    assert "pipeline check --ddl" in done.stderr
    assert f"grant select, insert, update on public.accounts to {ROLE}" in done.stderr
    psql(dsn, f"grant select, insert, update on public.accounts to {ROLE}")
    psql(dsn, check("--ddl").stdout)
    done = check("--config", config)
    assert done.returncode == 2
    assert f"role {ROLE} may not use pipeline." in done.stderr
    psql(dsn, SCHEMA_RIGHTS)
    done = check("--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert "db0: exists" in done.stdout


def test_a_role_with_grants_on_columns_is_told_which_is_missing(
    servers: Servers, topic: TopicFactory, dsn: str, writer: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, servers.bootstrap, topic(), writer)
    written = "seen, total, last, at_offset, marks"
    psql(dsn, check("--ddl").stdout)
    psql(dsn, SCHEMA_RIGHTS)
    psql(dsn, f"grant select on accounts to {ROLE}; grant update ({written}) on accounts to {ROLE}")
    psql(dsn, f"grant insert (id, seen, last, marks) on accounts to {ROLE}")
    done = check("--config", config)
    assert done.returncode == 2
    grant = 'insert ("total", "at_offset")'
    assert f"role {ROLE} may not {grant}: grant {grant} on public.accounts to {ROLE}" in done.stderr
    psql(dsn, f"grant {grant} on public.accounts to {ROLE}")
    done = check("--config", config)
    assert (done.returncode, done.stderr) == (0, "")


def test_tenants_are_looked_for_where_the_records_are(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    name = topic(6)
    records = 'tenant = "app_id"'
    config = write_config(tmp_path, servers.bootstrap, name, dsn, records=records)
    assert "no record shows yet" in check("--config", config).stdout
    tenants = [f"app-{n % 12}" for n in range(48)]

    def of(tenant: str) -> bytes:
        row = {"id": 1, "one": 1, "amount": 1, "n": 1, "marks": {}}
        return orjson.dumps({"app_id": tenant, **row})

    accounts.produce(servers.bootstrap, name, [(t.encode(), of(t)) for t in tenants])
    done = check("--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert "in the 48 newest records, 12 of 12 tenants are in one partition" in done.stdout
    assert "each record is where Kafka's default partitioner" in " ".join(done.stdout.split())
    assert "Warnings" not in done.stdout
    for partition in range(6):
        accounts.produce(servers.bootstrap, name, [(b"k", of("app-1"))], partition)
    accounts.produce(servers.bootstrap, name, [(b"k", b"not JSON")], 0)
    told = " ".join(check("--config", config).stdout.split())
    assert "1 of 12 tenants have records in several partitions (such as 'app-1'" in told
    assert "1 of the 55 newest records have no app_id" in told
    assert "5 of the records are not where Kafka's default partitioner" in told


def test_a_broken_configuration_is_told_without_connecting(tmp_path: Path) -> None:
    config = tmp_path / "pipeline.toml"
    config.write_text("[pipelin]\nname = 'sessions'\n")
    done = check("--config", config)
    assert done.returncode == 2
    assert 'did you mean "pipeline"' in done.stderr


def test_a_misspelt_path_is_found_by_the_newest_records(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    """It was valid, and gave null in every row."""
    name = topic(1)
    sink = accounts.SINK.replace('last = "n"', 'last = "customer.nmae"')
    config = write_config(tmp_path, servers.bootstrap, name, dsn, sink=sink)
    assert check("--config", config).returncode == 0
    value = {"id": 1, "one": 1, "amount": 1, "marks": {}, "customer": {"name": 5}}
    accounts.produce(servers.bootstrap, name, [(b"1", orjson.dumps(value))] * 3)
    done = check("--config", config)
    assert done.returncode == 0
    told = " ".join(done.stdout.split())
    assert "sink.columns.last: none of the 3 newest records has customer.nmae" in told
    assert 'did you mean "customer.name"?' in told


def commit(bootstrap: str, group: str, topic: str, offset: int, metadata: str = "") -> None:
    """Let a group, which has no member, have committed an offset of partition 0."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group)
    given = OffsetAndMetadata(offset, metadata, -1)
    consumer.commit({TopicPartition(topic, 0): given})
    consumer.close(autocommit=False)


def row(**changed: object) -> bytes:
    return orjson.dumps({"id": 1, "one": 1, "amount": 1, "n": 1, "marks": {}} | changed)


def test_the_plan_tells_where_each_partition_would_begin_and_why(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    name = topic(2)
    config = write_config(tmp_path, servers.bootstrap, name, dsn)
    for partition in (0, 1):
        accounts.produce(servers.bootstrap, name, [(b"1", row())] * 5, partition)
    told = " ".join(check("--config", config).stdout.split())
    assert f"{name} 0-1 at offset 0: the group has no offset there, so by auto_offset" in told
    assert "(earliest) 10 records wait from there to the ends of the logs" in told
    assert f"group {name} is new here, so all of them are applied; columns with merge add" in told
    commit(servers.bootstrap, name, name, 3)
    told = " ".join(check("--config", config).stdout.split())
    assert f"{name} 0 at offset 3: the group's offset" in told
    assert f"{name} 1 at offset 0: the group has no offset there" in told
    found = orjson.loads(check("--config", config, "--json").stdout)
    assert found["starts"][0] == {
        "topic": name, "partition": 0, "offset": 3, "why": "the group's offset", "waiting": 2
    }  # fmt: skip


def test_an_offset_beyond_the_log_is_a_mistake(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    name = topic(1)
    config = write_config(tmp_path, servers.bootstrap, name, dsn)
    accounts.produce(servers.bootstrap, name, [(b"1", row())])
    commit(servers.bootstrap, name, name, 50)
    done = check("--config", config)
    assert done.returncode == 2
    assert (
        f"{name}-0: offset 50 comes next, and all below 50 was read, but the log ends at "
        in done.stderr
    )


def test_a_partition_that_moved_to_another_shard_is_a_mistake(
    job: Job, account_dsn: str, database: DatabaseFactory
) -> None:
    """Rows stay behind in the former database, and begin anew in the other."""
    other = database()
    psql(other, accounts.TABLE)
    job.write_config({"db0": (account_dsn, "")})
    job.produce(accounts.changes(60, keys=12, seed=1))
    instance = job.start()
    job.wait_caught_up()
    assert instance.stop() == 0
    job.write_config({"db0": (account_dsn, "0-3"), "db1": (other, "4-5")})
    done = check("--config", job.config)
    assert done.returncode == 2
    assert (
        f"shards[db1].partitions: partitions 4-5 of topic {job.topic} were applied to shard db0"
        in (done.stderr)
    )
    forget = done.stderr.partition("let db0 forget: ")[2].splitlines()[0]
    psql(account_dsn, forget)
    assert "were applied to shard" not in check("--config", job.config).stderr


def test_a_port_that_is_taken_is_told(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, servers.bootstrap, topic(), dsn)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        config.write_text(config.read_text() + f'\n[http]\nlisten = "{where}"\n')
        done = check("--config", config)
    assert done.returncode == 2
    assert f"http.listen: can't listen on {where}: Address already in use" in done.stderr
    assert check("--config", config).returncode == 0


def test_values_that_a_column_does_not_take_are_found_among_the_newest_records(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    name = topic(1)
    psql(dsn, "alter table accounts add at timestamptz")
    sink = accounts.SINK + 'at = "at"\n'
    config = write_config(tmp_path, servers.bootstrap, name, dsn, sink=sink)
    good = "2026-01-02T03:04:05Z"
    accounts.produce(servers.bootstrap, name, [(b"1", row(at=good))] * 3)
    assert check("--config", config).returncode == 0
    wrong = [row(n="secret"), row(at="secret"), row(at={"secret": 1}), b"no JSON secret"]
    accounts.produce(servers.bootstrap, name, [(b"1", value) for value in wrong])
    done = check("--config", config)
    assert done.returncode == 0
    told = " ".join(done.stdout.split())
    assert "sink.columns.last: 1 of the 6 newest values at n can't be stored as" in told
    assert "sink.columns.at: 2 of the 5 newest values at at can't be stored as" in told
    assert "(they are a string or an object; shard db0): each stops the pipeline" in told
    assert "of 1 of the 7 newest records the value is not JSON: each stops the pipeline" in told
    assert "secret" not in told


def test_keys_that_order_nothing_are_found_among_the_newest_records(
    servers: Servers, topic: TopicFactory, dsn: str, tmp_path: Path
) -> None:
    name = topic(1)
    config = write_config(tmp_path, servers.bootstrap, name, dsn)
    accounts.produce(
        servers.bootstrap, name, [(b"1", row(id=key)) for key in (1, None, {"a": 1}, [1], {})]
    )
    told = " ".join(check("--config", config).stdout.split())
    assert "records.key: 4 of the 5 newest records have no usable key at id" in told
    assert "2 an object, 1 null, 1 a list" in told


def test_a_role_that_may_only_read_is_told(
    servers: Servers, topic: TopicFactory, dsn: str, writer: str, tmp_path: Path
) -> None:
    psql(dsn, f"alter role {ROLE} set default_transaction_read_only = on")
    config = write_config(tmp_path, servers.bootstrap, topic(), writer)
    told = check("--config", config).stderr
    assert "takes no writes: default_transaction_read_only is on" in told
    assert f"alter role {ROLE} set default_transaction_read_only = off" in told
