"""PostgreSQL: one cluster, trust authentication, on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pipeline.local.binaries import installed, postgres_user, runnable
from pipeline.local.errors import LocalError
from pipeline.local.places import open_to_others
from pipeline.local.ports import HOST, answers
from pipeline.local.process import Program
from pipeline.local.server import Server, Settings

SETTINGS: Settings = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": 200,
    "shared_buffers": "256MB",
    "autovacuum": "on",
    # Safe against the death of any process, but not of the machine. For figures that have to hold
    # on a production server, ask for fsync = "on".
    "fsync": "off",
    "synchronous_commit": "on",
    # In the data directory and not in /dev/shm, where a killed server would leave them.
    "dynamic_shared_memory_type": "mmap",
}
STATUS_LINE = 7
READY = "ready"


class Postgres(Server):
    """A PostgreSQL server on 127.0.0.1.

    ``install`` is a directory whose ``bin`` has PostgreSQL's programs; the wheel's if none is given.
    """

    name = "Postgres"
    defaults = SETTINGS

    def __init__(
        self,
        directory: Path,
        settings: Settings | None = None,
        *,
        install: Path | None = None,
        tied: bool = True,
        remove: bool = False,
    ) -> None:
        super().__init__(directory, settings, tied=tied, remove=remove)
        self._install = install

    @property
    def dsn(self) -> str:
        """The server's DSN: database ``postgres``, as its superuser."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    def prepare(self) -> Program:
        """Create the cluster if there is none (1 s)."""
        user = postgres_user()
        self.directory.mkdir(parents=True, exist_ok=True)
        if user is not None:
            self._let_in(user)
        install = self._install or runnable(user, self.directory)
        if not (self._data / "PG_VERSION").exists():
            self._create(install / "bin" / "initdb", user)
        argv = [str(install / "bin" / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        for key, value in self._settings.items():
            argv += ["-c", f"{key}={value}"]
        return Program(
            name=self.name,
            argv=argv,
            directory=self.directory,
            log=self.log,
            stop_signal=signal.SIGINT,  # "fast": sessions are ended, a checkpoint is written
            end_signal=signal.SIGQUIT,  # "immediate": recovers at the next start
            user=user,
        )

    def ready(self) -> bool:
        """Return whether the server listens and its pid file says so, in the line that pg_ctl reads."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        ours = self.process is not None and lines[:1] == [str(self.process.pid)]
        return ours and [s.strip() for s in lines[STATUS_LINE:]] == [READY] and answers(self.port)

    def _let_in(self, user: int) -> None:
        self.directory.chmod(0o711)
        if not open_to_others(self.directory):
            raise LocalError(
                f"Postgres doesn't run as root but as user {user}, who can't enter "
                f"{self.directory}: choose a directory below one that is open to all, such as /tmp"
            )
        self._data.mkdir(mode=0o700, exist_ok=True)
        os.chown(self._data, user, user)

    def _create(self, initdb: Path, user: int | None) -> None:
        command = [str(initdb), "-D", str(self._data), "--username=postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        self._run(command, "initdb failed", user)


def psql(dsn: str, statement: str) -> str:
    """Run SQL and return what psql prints: one line per row, columns separated by "|".

    Raises LocalError with what Postgres said.
    """
    command = [str(installed() / "bin" / "psql"), "--no-psqlrc", "--quiet", "--tuples-only"]
    command += ["--no-align", "--set=ON_ERROR_STOP=1", f"--dbname={dsn}"]
    done = subprocess.run(command, input=statement, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"{statement!r} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def create_database(dsn: str, name: str) -> str:
    """Create a database on a server and return its DSN. Raises LocalError if it exists."""
    psql(dsn, f"create database {_quoted(name)}")
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def drop_database(dsn: str, name: str) -> None:
    """Drop a database and whoever is connected to it; nothing happens if there is none."""
    psql(dsn, f"drop database if exists {_quoted(name)} with (force)")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
