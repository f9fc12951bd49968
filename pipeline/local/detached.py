"""Servers that outlive the command that started them: ``pipeline local up``, ``down``, ``status``.

The state file holds ports, pids and logs. It is written when the servers serve, and nothing depends
on it being true: the processes that exist decide whether a pid in it still is that server, and what
has to be ended (:mod:`pipeline.local.members`).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from pipeline.local.errors import LocalError
from pipeline.local.kafka import Kafka
from pipeline.local.members import end_members, members
from pipeline.local.places import state_directory
from pipeline.local.postgres import Postgres
from pipeline.local.servers import DSN_VARIABLE, start_all


@attrs.frozen
class ServerEntry:
    """A server as the state file has it. ``pid`` is None for a Postgres that was not started here."""

    name: str
    address: str
    """``host:port`` of Kafka, the DSN of Postgres."""
    port: int | None = None
    pid: int | None = None
    log: str | None = None


class Detached:
    """The servers of this user, in one directory. Commands that run at once wait for each other."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or state_directory() / "local"
        self._state = self.directory / "state.json"

    def up(self) -> tuple[list[ServerEntry], bool]:
        """Start the servers unless they are up; return them, and whether they were up already.

        Raises LocalError if one doesn't start; then none is left running, and the logs stay.
        """
        with self._alone():
            known = self.entries()
            if known and all(self.alive(entry) for entry in known):
                return known, True
            end_members(self.directory)
            started = self._start()
            _replace(self._state, json.dumps([attrs.asdict(entry) for entry in started]))
            return started, False

    def down(self, *, keep_data: bool = False) -> bool:
        """End every server here and remove their data; return whether there was anything to end."""
        with self._alone():
            anything = bool(members(self.directory)) or self._state.exists()
            end_members(self.directory)
            left = members(self.directory)
            if left:
                raise LocalError(f"processes {left} can't be ended; their data stays: try again")
            self._state.unlink(missing_ok=True)
            if not keep_data:
                anything = anything or any(self.directory.iterdir())
                shutil.rmtree(self.directory)
            return anything

    def entries(self) -> list[ServerEntry]:
        """Return the servers of the state file; none if there is no file or it can't be read."""
        try:
            return [ServerEntry(**entry) for entry in json.loads(self._state.read_text())]
        except (OSError, ValueError, TypeError):
            return []

    def alive(self, entry: ServerEntry) -> bool:
        """Return whether the server's process exists; one that was not started here is taken to."""
        return entry.pid is None or entry.pid in members(self.directory)

    def _start(self) -> list[ServerEntry]:
        kafka = Kafka(self.directory / "kafka", tied=False)
        given = os.environ.get(DSN_VARIABLE)
        postgres = None if given else Postgres(self.directory / "postgres", tied=False)
        start_all([kafka] if postgres is None else [kafka, postgres])
        assert kafka.process is not None
        kafka.process.leave_running()
        entries = [
            ServerEntry("Kafka", kafka.bootstrap, kafka.port, kafka.process.pid, str(kafka.log)),
        ]
        if postgres is None:
            return [*entries, ServerEntry("Postgres", given or "")]
        assert postgres.process is not None
        postgres.process.leave_running()
        pid, log = postgres.process.pid, str(postgres.log)
        return [*entries, ServerEntry("Postgres", postgres.dsn, postgres.port, pid, log)]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:  # the user who runs Postgres must get through
            self.directory.chmod(0o711)
        lock = self.directory.with_suffix(".lock")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.directory.mkdir(parents=True, exist_ok=True)
            yield


def _replace(path: Path, text: str) -> None:
    whole = path.with_suffix(".new")
    whole.write_text(text)
    whole.replace(path)
