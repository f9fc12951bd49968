"""Servers that outlive the command that started them: ``pipeline local up``, ``down``, ``status``.

The state file tells ports, pids and logs. It is written when the servers serve, and nothing
depends on it being true: whether a pid in it still is that server, and what has to be ended,
is decided by the processes that are there (:mod:`pipeline.local.members`).
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
class Entry:
    """A server as the state file tells it. ``pid`` is None for a Postgres that isn't ours."""

    name: str
    address: str
    """``host:port`` of Kafka, the DSN of Postgres."""
    port: int | None = None
    pid: int | None = None
    log: str | None = None


class Detached:
    """The servers of this user, in one directory; commands at the same time wait for each other."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or state_directory() / "local"
        self._state = self.directory / "state.json"

    def up(self) -> tuple[list[Entry], bool]:
        """Start what isn't up; return the servers and whether they were up already.

        Raises LocalError where one doesn't start; then none is left running, and the logs stay.
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
        """End every server here and remove their data; return whether there was anything."""
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

    def entries(self) -> list[Entry]:
        """The servers of the state file; none where there is no such file or it can't be read."""
        try:
            return [Entry(**entry) for entry in json.loads(self._state.read_text())]
        except (OSError, ValueError, TypeError):
            return []

    def alive(self, entry: Entry) -> bool:
        """Whether the server's process is there (a Postgres that isn't ours is taken to be)."""
        return entry.pid is None or entry.pid in members(self.directory)

    def _start(self) -> list[Entry]:
        kafka = Kafka(self.directory / "kafka", tied=False)
        given = os.environ.get(DSN_VARIABLE)
        postgres = None if given else Postgres(self.directory / "postgres", tied=False)
        start_all([kafka] if postgres is None else [kafka, postgres])
        assert kafka.process is not None
        entries = [
            Entry("Kafka", kafka.bootstrap, kafka.port, kafka.process.pid, str(kafka.log)),
        ]
        if postgres is None:
            return [*entries, Entry("Postgres", given or "")]
        assert postgres.process is not None
        pid, log = postgres.process.pid, str(postgres.log)
        return [*entries, Entry("Postgres", postgres.dsn, postgres.port, pid, log)]

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
