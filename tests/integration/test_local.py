"""Kafka and Postgres on this machine: they serve, they come back, and nothing is left of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import TopicAlreadyExistsError

from pipeline.cli import main
from pipeline.local import LocalError, Servers
from pipeline.local.detached import Detached
from pipeline.local.jars import VERSION, kafka_jars
from pipeline.local.java import find_java, find_maven
from pipeline.local.members import guards, members
from pipeline.local.ports import first_ephemeral_port, free_port
from pipeline.local.postgres import psql
from pipeline.local.servers import DSN_VARIABLE
from pipeline.local.waiting import wait_until
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real

PATIENCE = 30.0


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the user who runs Postgres can enter, unlike pytest's where root runs it."""
    made = Path(tempfile.mkdtemp(prefix="pipeline-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def detached(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Detached]:
    """What ``pipeline local`` works on, in a directory of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    monkeypatch.delenv(DSN_VARIABLE, raising=False)
    servers = Detached()
    yield servers
    servers.down()


def partitions_of(servers: Servers, topic: str) -> int:
    with servers.kafka.admin() as admin:
        (told,) = admin.describe_topics([topic])
    return len(told["partitions"])


def nobody_left(place: Path) -> bool:
    return wait_until(lambda: members(place) == [], PATIENCE)


# Serving.


def test_topics_and_databases(
    servers: Servers, topic: TopicFactory, database: DatabaseFactory
) -> None:
    name = topic(partitions=3, retention_ms="1000")
    assert partitions_of(servers, name) == 3
    with pytest.raises(TopicAlreadyExistsError):
        servers.create_topic(name)
    one, other = database(), database()
    psql(one, "create table t (a int); insert into t values (7)")
    assert psql(one, "table t") == "7"
    with pytest.raises(LocalError, match='"t" does not exist'):
        psql(other, "table t")


def test_only_this_machine_can_connect(servers: Servers) -> None:
    listeners = (servers.kafka.directory / "server.properties").read_text()
    assert f"listeners=PLAINTEXT://127.0.0.1:{servers.kafka.port},CONTROLLER://127" in listeners
    if servers.owns_postgres:
        assert psql(servers.dsn, "show listen_addresses") == "127.0.0.1"
        assert psql(servers.dsn, "show unix_socket_directories") == ""


def test_ports_are_not_those_of_outgoing_connections() -> None:
    assert all(free_port() < first_ephemeral_port() for _ in range(100))


def test_a_postgres_of_ones_own(monkeypatch: pytest.MonkeyPatch, servers: Servers) -> None:
    monkeypatch.setenv(DSN_VARIABLE, servers.dsn)
    with Servers.start(kafka=False) as given:
        assert given.dsn == servers.dsn
        with pytest.raises(LocalError, match=DSN_VARIABLE):
            given.postgres.stop()
        with pytest.raises(LocalError, match="kafka=False"):
            assert given.kafka


# Chaos: stopped, killed, frozen; the same port and data again.


@pytest.fixture(scope="module")
def fragile() -> Iterator[Servers]:
    """Servers to be broken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(DSN_VARIABLE, raising=False)
        with Servers.start(postgres_settings={"work_mem": "7MB"}) as servers:
            servers.create_topic("kept", partitions=2)
            psql(servers.create_database("kept"), "create table t (a int)")
            yield servers


def break_and_start(servers: Servers, name: str, how: str) -> None:
    server = servers.kafka if name == "kafka" else servers.postgres
    port = server.port
    if how == "stop":
        server.stop()
    else:
        server.kill(signal.SIGKILL)
    assert not server.running
    assert members(server.directory) == []
    server.start()
    assert server.running
    assert server.port == port


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["stop", "SIGKILL"])
def test_kafka_comes_back(fragile: Servers, how: str) -> None:
    break_and_start(fragile, "kafka", how)
    assert partitions_of(fragile, "kept") == 2


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["stop", "SIGKILL"])
def test_postgres_comes_back(fragile: Servers, how: str) -> None:
    break_and_start(fragile, "postgres", how)
    kept = fragile.dsn.removesuffix("/postgres") + "/kept"
    assert psql(kept, "select count(*) from t") == "0"
    assert psql(kept, "show work_mem") == "7MB"


@pytest.mark.chaos
def test_frozen_postgres_goes_on(fragile: Servers) -> None:
    fragile.postgres.kill(signal.SIGSTOP)
    with pytest.raises(LocalError, match="timeout expired"):
        psql(f"{fragile.dsn}?connect_timeout=2", "select 1")
    fragile.postgres.kill(signal.SIGCONT)
    assert psql(fragile.dsn, "select 1") == "1"


@pytest.mark.chaos
def test_frozen_kafka_can_be_stopped(fragile: Servers) -> None:
    fragile.kafka.kill(signal.SIGSTOP)
    fragile.kafka.stop()
    assert members(fragile.kafka.directory) == []
    fragile.kafka.start()


@pytest.mark.chaos
def test_server_ends_with_its_guard(fragile: Servers) -> None:
    for server in (fragile.kafka, fragile.postgres):
        (guard,) = guards(server.directory)
        os.kill(guard, signal.SIGKILL)
        assert nobody_left(server.directory)
        server.start()


# Nothing is left.


def test_closed_servers_leave_nothing() -> None:
    with Servers.start(kafka=False) as servers:
        place = servers.directory
        psql(servers.dsn, "select 1")
    assert members(place) == []
    assert not place.exists()


def test_given_directory_stays(place: Path) -> None:
    with Servers.start(place / "here", kafka=False) as servers:
        servers.create_database("kept")
    assert members(place) == []
    with Servers.start(place / "here", kafka=False) as servers:
        assert psql(servers.dsn, "select 1 from pg_database where datname = 'kept'") == "1"


OWNER = """
import os, sys
from pipeline.local import Servers
with Servers.start(kafka={kafka}) as servers:
    if {fork} and os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print(servers.directory, flush=True)
    sys.stdin.read()
"""


def owner(**options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER.format(**options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("kafka", "fork"), [(True, False), (False, True)], ids=["both servers", "owner forked"]
)
def test_servers_end_with_a_killed_owner(
    kafka: bool, fork: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DSN_VARIABLE, raising=False)
    with owner(kafka=kafka, fork=fork) as process:
        assert process.stdout is not None
        place = Path(process.stdout.readline().strip())
        assert len(guards(place)) == (2 if kafka else 1)
        started = set(members(place))
        assert len(started) > 2 * len(guards(place))
        process.kill()
        assert wait_until(lambda: not any(map(alive, started)), PATIENCE)
        assert wait_until(lambda: not place.exists(), PATIENCE)
        assert members(place) == []


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie (of which nobody but its parent can be rid)."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


# Errors say what to do.


def test_failed_start_shows_the_log_and_leaves_no_process(place: Path) -> None:
    with (
        pytest.raises(LocalError, match="Postgres exited with 1") as failed,
        Servers.start(place, kafka=False, postgres_settings={"max_connections": "many"}),
    ):
        pytest.fail("it has started")
    assert 'invalid value for parameter "max_connections": "many"' in str(failed.value)
    assert str(place / "postgres" / "postgres.log") in str(failed.value)
    assert members(place) == []


def test_kafka_mistake_ends_postgres_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DSN_VARIABLE, raising=False)
    with (
        pytest.raises(LocalError, match=r"kafka\.log") as failed,
        Servers.start(place, kafka_settings={"num.io.threads": 0}),
    ):
        pytest.fail("it has started")
    assert "num.io.threads" in str(failed.value)
    assert members(place) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's Postgres runs as another user")
def test_directory_that_postgres_cannot_enter(place: Path) -> None:
    place.chmod(0o700)
    with (
        pytest.raises(LocalError, match="choose a directory"),
        Servers.start(place / "postgres-is-locked-out", kafka=False),
    ):
        pytest.fail("it has started")


def test_no_java_no_maven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        LocalError, match=r"there is none. Type:\napt-get .*openjdk-17-jre-headless"
    ):
        find_java()
    with pytest.raises(LocalError, match=r"Type:\napt-get .*maven"):
        find_maven()


@pytest.mark.parametrize(
    "printed", ['openjdk version "11.0.2" 2019-01-15', 'java version "1.8.0_301"']
)
def test_old_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: str) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho '{printed}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(LocalError, match=r"is (11|8)\. Type:\napt-get"):
        find_java()


def test_installs_at_the_same_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: kafka_jars(), range(2))
    assert first == second
    assert (first / f"kafka_2.13-{VERSION}.jar").exists()
    assert [found for found in (tmp_path / "pipeline").iterdir() if found.is_dir()] == [first]


# The command.


def test_up_status_down(detached: Detached, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["local", "status"]) == 1
    assert main(["local", "up"]) == 0
    told = capsys.readouterr().out
    variables = dict(
        line.removeprefix("export ").split("=", 1)
        for line in told.splitlines()
        if line.startswith("export ")
    )
    assert psql(variables["DSN"], "select 1") == "1"
    assert variables["KAFKA"].startswith("127.0.0.1:")
    assert main(["local", "up"]) == 0
    assert "already up" in capsys.readouterr().out
    assert main(["local", "status"]) == 0
    assert str(detached.directory / "kafka" / "kafka.log") in capsys.readouterr().out
    assert main(["local", "down"]) == 0
    assert members(detached.directory) == []
    assert not detached.directory.exists()
    assert main(["local", "status"]) == 1


def test_kept_data_and_half_dead_servers(detached: Detached) -> None:
    entries, _ = detached.up()
    dsn = {entry.name: entry.address for entry in entries}["Postgres"]
    psql(dsn, "create table t (a int)")
    assert detached.down(keep_data=True)
    entries, already = detached.up()
    assert not already
    dsn = {entry.name: entry.address for entry in entries}["Postgres"]
    assert psql(dsn, "select count(*) from t") == "0"
    kafka = next(entry for entry in entries if entry.name == "Kafka")
    assert kafka.pid is not None
    os.kill(kafka.pid, signal.SIGKILL)
    assert wait_until(lambda: not detached.alive(kafka), PATIENCE)
    assert main(["local", "status"]) == 1
    _, already = detached.up()
    assert not already
    assert main(["local", "status"]) == 0


def test_down_does_not_believe_the_state_file(detached: Detached) -> None:
    detached.up()
    (detached.directory / "state.json").write_text("[{")
    os.kill(guards(detached.directory)[0], signal.SIGKILL)
    os.kill(members(detached.directory)[-1], signal.SIGSTOP)
    assert detached.down()
    assert members(detached.directory) == []
    assert not detached.directory.exists()
    assert not detached.down()


def test_up_outlives_its_command(detached: Detached) -> None:
    subprocess.run(
        [sys.executable, "-m", "pipeline", "local", "up"], capture_output=True, check=True
    )
    assert all(detached.alive(entry) for entry in detached.entries())
