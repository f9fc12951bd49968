"""PgBouncer in transaction mode, with the default settings, in front of a Postgres server.

From Debian's package ``pgbouncer``; a test skips, with the reason, where it is missing. Fixture
``new_pgbouncer``: a factory of poolers that end with the test (0.1 s)::

    def test_something(servers, database, new_pgbouncer):
        pooler = new_pgbouncer(servers.postgres)
        dsn = pooler.dsn(database())      # the same database and user, through the pooler

Up to 1.20 it knows no prepared statements; since 1.21 it keeps them, unless
``max_prepared_statements = 0`` (see `PgBouncer.keeps_prepared_statements`).
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.local.binaries import postgres_user
from pipeline.local.errors import LocalError
from pipeline.local.ports import HOST, answers
from pipeline.local.postgres import Postgres, psql
from pipeline.local.process import Program
from pipeline.local.server import Server
from tests.support.postgres_servers import server_directory, through
from tests.support.proxy import Proxy


def pgbouncer_program() -> str | None:
    """The program; None if it is not installed. Debian's place is not on every user's path."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def pgbouncer_version() -> tuple[int, int]:
    """Its version, (1, 18) for instance."""
    program = pgbouncer_program()
    assert program is not None, "PgBouncer is not installed"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+)\.(\d+)", told.stdout)
    assert found is not None, told.stdout
    return int(found[1]), int(found[2])


class PgBouncer(Server):
    """A pooler before a server on this machine. ``settings`` go into its section [pgbouncer]."""

    name = "PgBouncer"

    def __init__(self, directory: Path, server_port: int, **settings: str | int) -> None:
        super().__init__(directory, remove=True)
        self._server_port = server_port
        self._settings = settings

    def prepare(self) -> Program:
        """Write the configuration."""
        program = pgbouncer_program()
        if program is None:
            raise LocalError("PgBouncer is missing. Type, as root: apt-get install pgbouncer")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o711)
        users = self.directory / "users.txt"
        users.write_text('"postgres" ""\n')
        settings: dict[str, str | int] = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "auth_type": "trust",
            "auth_file": str(users),
            "auth_user": "postgres",  # asks the server for the other users
            "admin_users": "postgres",
            **self._settings,
        }
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        server = f"[databases]\n* = host={HOST} port={self._server_port}\n"
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text(f"{server}[pgbouncer]\n{''.join(lines)}")
        return Program(
            name=self.name,
            argv=[program, str(configuration)],
            directory=self.directory,
            log=self.log,
            stop_signal=signal.SIGTERM,
            end_signal=signal.SIGKILL,
            user=postgres_user(),
        )

    def ready(self) -> bool:
        """Whether it listens."""
        return answers(self.port)

    def dsn(self, dsn: str) -> str:
        """The server's DSN, through the pooler."""
        return through(dsn, self.port)

    def admin(self, command: str) -> str:
        """Run a command of its console, ``show pools`` for instance; return what psql prints."""
        return psql(f"postgresql://postgres@{HOST}:{self.port}/pgbouncer", command)

    def keeps_prepared_statements(self) -> bool:
        """Whether a statement that was prepared in one transaction is there in the next."""
        if pgbouncer_version() < (1, 21):
            return False
        shown = self.admin("show config").splitlines()
        values = dict(line.split("|")[:2] for line in shown)
        return int(values["max_prepared_statements"]) > 0


@contextmanager
def pgbouncer(server_port: int, **settings: str | int) -> Iterator[PgBouncer]:
    """A running pooler before a server's port, for as long as the block lasts."""
    if pgbouncer_program() is None:
        pytest.skip("no PgBouncer here: apt-get install pgbouncer")
    with server_directory() as place, ExitStack() as stack:
        pooler = PgBouncer(place / "pgbouncer", server_port, **settings)
        stack.callback(pooler.close)
        pooler.start()
        yield pooler


NewPgBouncer = Callable[..., PgBouncer]
"""``new_pgbouncer(server, **settings)`` → a running pooler before a Postgres of ours, or before a proxy."""


@pytest.fixture
def new_pgbouncer() -> Iterator[NewPgBouncer]:
    """Poolers of this test's own: ``new_pgbouncer(servers.postgres, default_pool_size=2)``."""
    with ExitStack() as stack:

        def make(server: Postgres | Proxy, **settings: str | int) -> PgBouncer:
            return stack.enter_context(pgbouncer(server.port, **settings))

        yield make
