"""Where a database is: several hosts, a server that can be written no more, a password that changes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.local.ports import HOST, free_port
from pipeline.local.postgres import psql
from pipeline.postgres.connections.bridge import Connection, Connections, Session
from pipeline.postgres.connections.connector import AddressUnreadable, NoServer
from tests.integration.test_pooler import used
from tests.support import accounts
from tests.support.pgbouncer import NewPgBouncer
from tests.support.pipelines import Job
from tests.support.secured_postgres import TlsPostgres
from tests.support.standby import Failover

pytestmark = pytest.mark.real

READ_WRITE = "target_session_attrs=read-write"


def several(*ports: int, query: str = "") -> str:
    hosts = ",".join(f"{HOST}:{port}" for port in ports)
    return f"postgresql://postgres@{hosts}/postgres{query}"


async def port_of(connection: Connection) -> int:
    return int(await connection.fetchval("select inet_server_port()"))


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server((HOST, 0), backlog=50) as listening:
        yield int(listening.getsockname()[1])


@pytest.mark.parametrize("query", ["", f"?{READ_WRITE}", "?target_session_attrs=primary"])
async def test_a_dead_host_and_a_standby_are_passed_over(failover: Failover, query: str) -> None:
    primary = failover.primary.port
    dsn = several(free_port(), failover.standby.port, primary, query=query)
    connections = Connections(dsn, Session("hosts"))
    assert await used(connections, port_of) == [primary]
    assert connections.server == f"{HOST}:{primary}"


async def test_a_host_that_swallows_packets_leaves_time_for_the_others(
    failover: Failover, silent: int
) -> None:
    dsn = several(silent, failover.primary.port)
    connections = Connections(dsn, Session("hosts", connect_timeout=1.0))
    assert await used(connections, port_of) == [failover.primary.port]


async def test_any_host_is_taken_if_the_dsn_says_so(failover: Failover) -> None:
    dsn = several(failover.standby.port, failover.primary.port, query="?target_session_attrs=any")
    assert await used(Connections(dsn, Session("hosts")), port_of) == [failover.standby.port]


async def test_hosts_that_can_not_be_used_are_each_named_with_the_reason(
    failover: Failover, new_pgbouncer: NewPgBouncer
) -> None:
    dead, pooled = free_port(), new_pgbouncer(failover.standby)
    dsn = several(dead, failover.standby.port, pooled.port)
    with pytest.raises(NoServer) as raised:
        await used(Connections(dsn, Session("hosts")), port_of)
    message = str(raised.value)
    assert f"{HOST}:{dead}: " in message
    assert f"{HOST}:{failover.standby.port}: the server is read-only" in message
    assert f"{HOST}:{pooled.port}: the server is read-only" in message


def test_a_primary_that_dies_is_left_for_the_standby_that_is_promoted(
    job: Job, failover: Failover
) -> None:
    psql(failover.primary.dsn, accounts.TABLE)
    dsn = several(failover.primary.port, failover.standby.port, query=f"?{READ_WRITE}")
    job.write_config({"db0": (dsn, "")})
    instance = job.start()
    job.produce(accounts.changes(300, keys=50, seed=1))
    job.wait_caught_up()
    failover.standby.wait_caught_up()
    failover.primary.crash()
    job.produce(accounts.changes(300, keys=50, seed=2, first=300))
    failover.standby.promote()
    job.wait_caught_up()
    assert accounts.differences(job.log(), failover.standby.dsn) == []
    assert instance.stop() == 0


def test_a_primary_that_is_demoted_is_left_though_it_lives_on(job: Job, failover: Failover) -> None:
    """Its sessions stay open, and refuse every write with SQLSTATE 25006."""
    psql(failover.primary.dsn, accounts.TABLE)
    dsn = several(failover.primary.port, failover.standby.port)
    job.write_config({"db0": (dsn, "")})
    instance = job.start()
    job.produce(accounts.changes(300, keys=50, seed=1))
    job.wait_caught_up()
    failover.standby.wait_caught_up()
    failover.primary.configure("default_transaction_read_only", "on")
    job.produce(accounts.changes(300, keys=50, seed=2, first=300))
    job.wait_until(lambda: "is away" in instance.output, "the read-only server is left")
    failover.standby.promote()
    job.wait_caught_up()
    assert accounts.differences(job.log(), failover.standby.dsn) == []
    assert instance.stop() == 0


def test_a_standby_that_the_address_led_to_for_a_while_is_left(
    job: Job, failover: Failover
) -> None:
    """As with a name in DNS: who came while it led to the standby, was there for ever."""
    dsn = failover.dsn()
    instance = job.start_on(dsn)
    job.produce(accounts.changes(300, keys=50, seed=1))
    job.wait_caught_up()
    failover.standby.wait_caught_up()
    failover.address.lead_to(failover.standby.port)
    failover.address.cut()
    job.produce(accounts.changes(300, keys=50, seed=2, first=300))
    job.wait_until(lambda: "read-only" in instance.output, "the standby is met")
    failover.address.lead_to(failover.primary.port)  # open connections stay where they are
    job.wait_caught_up()
    assert accounts.differences(job.log(), dsn) == []
    assert instance.stop() == 0


class Rotated:
    """A role of the test's own, whose password changes, and its table."""

    def __init__(self, server: TlsPostgres, role: str) -> None:
        self.server = server
        self.role = role
        self.word = "first/1"
        server.sql(f"create role {role} login password '{self.word}'")
        server.sql(f"create database {role} owner {role}")
        server.sql(accounts.TABLE, database=role)
        server.sql(f"alter table accounts owner to {role}", database=role)

    def dsn(self, word: str | None = None) -> str:
        password = quote(self.word if word is None else word, safe="")
        return self.server.tls_dsn(self.role, user=self.role, password=password)

    def rotate(self) -> None:
        """Set another password, and end the sessions that came with the former one."""
        self.word = "second 2"
        self.server.sql(f"alter role {self.role} password '{self.word}'")
        self.end_sessions()

    def end_sessions(self) -> None:
        self.server.sql(
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{self.role}'"
        )

    def drop(self) -> None:
        self.server.sql(f"drop database {self.role} with (force)")
        self.server.sql(f"drop role {self.role}")


@pytest.fixture
def rotated(tls_postgres: TlsPostgres, tmp_path: Path) -> Iterator[Rotated]:
    role = Rotated(tls_postgres, f"rotated_{abs(hash(str(tmp_path)))}")
    yield role
    role.drop()


@pytest.mark.parametrize("kind", ["dsn_file", "passfile", "password in a file"])
def test_a_password_that_is_changed_needs_no_restart(
    job: Job, rotated: Rotated, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "secret"

    def write() -> None:
        text = {
            "dsn_file": f"{rotated.dsn()}\n",
            "passfile": f"*:*:*:{rotated.role}:{rotated.word}\n",
            "password in a file": quote(rotated.word, safe=""),
        }[kind]
        secret.touch(mode=0o600)
        secret.write_text(text)

    write()
    bare = rotated.dsn("").replace(":@", "@")
    keys = {
        "dsn_file": f'dsn_file = "{secret}"',
        "passfile": f'dsn = "{bare}"\npassfile = "{secret}"',
        "password in a file": f'dsn = "{rotated.dsn("").replace(":@", f":${{file:{secret}}}@")}"',
    }[kind]
    job.write_config({"db0": ("DSN", "")})
    job.config.write_text(job.config.read_text().replace('dsn = "DSN"', keys))
    instance = job.start()
    job.produce(accounts.changes(300, keys=50, seed=1))
    job.wait_caught_up()
    rotated.rotate()
    job.produce(accounts.changes(300, keys=50, seed=2, first=300))
    job.wait_until(lambda: "password authentication failed" in instance.output, "it is refused")
    write()
    job.wait_caught_up()
    assert accounts.differences(job.log(), rotated.server.dsn_of(rotated.role)) == []
    assert rotated.word not in instance.output
    assert instance.stop() == 0


async def test_a_passfile_that_others_may_read_is_told(rotated: Rotated, tmp_path: Path) -> None:
    """asyncpg passes over it, and the message would be of a wrong password."""
    place = tmp_path / "passfile"
    dsn = rotated.dsn("").replace(":@", "@")
    connections = Connections(dsn, Session("pass"), passfile=str(place))
    with pytest.raises(AddressUnreadable, match="No such file"):
        await used(connections, port_of)
    place.touch(mode=0o644)
    with pytest.raises(AddressUnreadable, match="chmod 0600"):
        await used(connections, port_of)
