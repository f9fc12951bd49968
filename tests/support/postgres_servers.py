"""PostgreSQL servers for tests that break them: of several versions, crashed, restored from backup.

`PostgresServer` is `pipeline.local.Postgres` with what an operator, or a power cut, does to one::

    with postgres_server(version="debian") as server:     # or "wheel", the newest of the wheel
        server.sql("create extension hstore", database="postgres")
        server.crash()      # pg_ctl -m immediate: commits that were not flushed are lost
        server.start()      # on the same port, with the same data

Fixtures: ``debian_postgres`` (one for the session, from Debian's package, which has hstore and
citext) and ``debian_database`` (databases of the test's own on it); ``new_postgres`` (a factory of
servers that end with the test). A test skips, with the reason, where the package is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import pytest

from pipeline.local.binaries import postgres_user
from pipeline.local.errors import LocalError
from pipeline.local.ports import HOST
from pipeline.local.postgres import Postgres, psql
from pipeline.local.postgres import create_database as create_database_at
from pipeline.local.server import Settings
from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE
from tests.support.servers import DatabaseFactory, unique_name

Version = Literal["wheel", "debian"]

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian's packages ``postgresql-15``, ``postgresql-17`` … put their programs."""

SMALL: Settings = {
    "shared_buffers": "32MB",
    "max_connections": 100,
    # What a standby that was paused for a while still finds after a checkpoint.
    "wal_keep_size": "64MB",
}


def debian_install() -> Path | None:
    """Debian's newest PostgreSQL, a directory with ``bin``; None if there is none."""
    found = [binary.parents[1] for binary in DEBIAN.glob("*/bin/postgres")]
    return max(found, key=lambda path: int(path.name), default=None)


def require_debian_install() -> Path:
    """Debian's newest PostgreSQL. The test skips if there is none."""
    install = debian_install()
    if install is None:
        pytest.skip(f"no PostgreSQL of Debian's in {DEBIAN}: apt-get install postgresql")
    return install


class PostgresServer(Postgres):
    """A server of a test's own; start, stop and kill come from `pipeline.local.server.Server`."""

    def __init__(
        self, directory: Path, settings: Settings | None = None, *, install: Path | None = None
    ) -> None:
        super().__init__(directory, {**SMALL, **(settings or {})}, install=install, remove=True)

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self._data

    @property
    def major(self) -> int:
        """The server's major version, 15 for instance."""
        return int(self.sql("show server_version_num")) // 10_000

    def dsn_of(self, database: str, user: str = "postgres", port: int | None = None) -> str:
        """A DSN of a database here; ``port`` is that of a proxy or a pooler in front of it."""
        return f"postgresql://{user}@{HOST}:{port or self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run SQL as the superuser and return what psql prints. Raises LocalError if it fails."""
        return psql(self.dsn_of(database), statement)

    def create_database(self, name: str) -> str:
        """Create a database and return its DSN. Raises LocalError if there is one already."""
        return create_database_at(self.dsn, name)

    def crash(self) -> None:
        """End the server at once, as ``pg_ctl -m immediate stop``: `start` then recovers.

        What was committed with ``synchronous_commit = off`` and not written yet is lost.
        """
        assert self.process is not None, "it was never started"
        self.process.end()

    def configure(self, name: str, value: str) -> None:
        """Set a setting on the running server (``alter system``) and wait until it is read.

        Only settings that a reload changes, and that were not given at the start.
        """
        self.sql(f"alter system set {name} = '{value}'")
        self.sql("select pg_reload_conf()")
        done = wait_until(lambda: self._configured(name) == value, PATIENCE)
        assert done, f"{name} is {self._configured(name)!r}, not {value!r}"

    def _configured(self, name: str) -> str:
        return self.sql(f"select setting from pg_settings where name = '{name}'")

    def end_sessions(self) -> None:
        """Terminate all other sessions."""
        self.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )

    def base_backup(self) -> Path:
        """Copy the running cluster with pg_basebackup; return the copy, for `restore`."""
        place = Path(tempfile.mkdtemp(prefix="backup-", dir=self.directory))
        copy_cluster(self, place)
        return place

    def restore(self, backup: Path, *, new_timeline: bool = False) -> None:
        """Put a copy of a backup in the place of the data, and start on the same port.

        All that was committed after the backup is gone. ``new_timeline``: as a recovery to a point
        in time does it (pgBackRest, Barman); without it the server keeps timeline and identity.
        """
        if self.running:
            self.crash()
        shutil.rmtree(self.data)
        subprocess.run(["cp", "--archive", str(backup), str(self.data)], check=True)
        if new_timeline:
            self.run_as_server(["touch", str(self.data / "recovery.signal")])
            with (self.data / "postgresql.auto.conf").open("a") as settings:
                settings.write("restore_command = 'false'\n")
        self.start()
        recovered = wait_until(lambda: self.sql("select pg_is_in_recovery()") == "f", PATIENCE)
        assert recovered, "the restored server does not come out of recovery"

    def timeline(self) -> int:
        """The timeline of the last checkpoint, which is written anew here."""
        return int(self.sql("checkpoint; select timeline_id from pg_control_checkpoint()"))

    def run_as_server(self, argv: list[str]) -> None:
        """Run a program as the user who runs the server. Raises LocalError if it fails."""
        user = postgres_user()
        done = subprocess.run(
            argv,
            cwd=self.directory,
            capture_output=True,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            check=False,
        )
        if done.returncode:
            raise LocalError(f"{argv[0]} failed: {done.stderr.strip()}")

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs, of this server's version."""
        assert self.process is not None, "it was never started"
        return str(Path(self.process.program.argv[0]).with_name(name))


def copy_cluster(source: PostgresServer, place: Path, *options: str) -> None:
    """Run pg_basebackup into an empty directory (half a second). ``options`` are added."""
    user = postgres_user()
    if user is not None:
        os.chown(place, user, user)
    place.chmod(0o700)
    where = [f"--pgdata={place}", f"--host={HOST}", f"--port={source.port}", "--username=postgres"]
    quick = ["--checkpoint=fast", "--no-sync", "--wal-method=stream"]
    source.run_as_server([source.program("pg_basebackup"), *where, *quick, *options])


@contextmanager
def server_directory() -> Iterator[Path]:
    """A directory that the user who runs the servers can enter; removed at the end."""
    place = Path(tempfile.mkdtemp(prefix="pipeline-servers-"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def postgres_server(
    settings: Settings | None = None, *, version: Version = "wheel"
) -> Iterator[PostgresServer]:
    """A running server for as long as the block lasts (2 s to start)."""
    install = require_debian_install() if version == "debian" else None
    with server_directory() as place, ExitStack() as stack:
        server = PostgresServer(place / "postgres", settings, install=install)
        stack.callback(server.close)
        server.start()
        yield server


NewPostgres = Callable[..., PostgresServer]
"""``new_postgres(settings=None, version="wheel")`` → a running server."""


@pytest.fixture
def new_postgres() -> Iterator[NewPostgres]:
    """Servers of this test's own: ``new_postgres({"max_connections": 20}, version="debian")``."""
    with ExitStack() as stack:

        def make(settings: Settings | None = None, version: Version = "wheel") -> PostgresServer:
            return stack.enter_context(postgres_server(settings, version=version))

        yield make


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[PostgresServer]:
    """Debian's PostgreSQL, one for the session. Who stops it starts it again."""
    with postgres_server(version="debian") as server:
        yield server


@pytest.fixture
def debian_database(
    debian_postgres: PostgresServer, request: pytest.FixtureRequest
) -> Iterator[DatabaseFactory]:
    """Databases of this test's own on `debian_postgres`."""
    made: list[str] = []

    def make() -> str:
        debian_postgres.start()
        made.append(unique_name(request))
        return debian_postgres.create_database(made[-1])

    yield make
    debian_postgres.start()
    for name in made:
        debian_postgres.sql(f'drop database if exists "{name}" with (force)')


def through(dsn: str, port: int) -> str:
    """The same DSN at another port of this machine: a proxy's or a pooler's."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=re.sub(r":\d+$", f":{port}", parts.netloc)))
