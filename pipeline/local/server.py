"""What Kafka and Postgres have in common: a port, a directory, a log, settings, and a life."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pipeline.local.errors import LocalError, last_lines
from pipeline.local.ports import free_port
from pipeline.local.process import Process, Program

Settings: TypeAlias = Mapping[str, str | int | bool]


class Server(ABC):
    """One server on this machine, on a port of its own that it keeps when it is started again.

    ``settings`` override :attr:`defaults`; both have the names of the server's own configuration.
    ``tied`` and ``remove``: see :class:`pipeline.local.process.Process`.
    """

    name: str
    defaults: Settings = {}  # noqa: RUF012 (never written to)

    def __init__(
        self,
        directory: Path,
        settings: Settings | None = None,
        *,
        tied: bool = True,
        remove: bool = False,
    ) -> None:
        self.directory = directory
        self.log = directory / f"{self.name.lower()}.log"
        self.port = free_port()
        self.process: Process | None = None
        self._data = directory / "data"
        self._settings: dict[str, str | int | bool] = {**self.defaults, **(settings or {})}
        self._tied = tied
        self._remove = remove
        self._closed = False

    @abstractmethod
    def prepare(self) -> Program:
        """Make the data directory if there is none, and return what to run. May take seconds."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether the started server serves."""

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and return when it serves; nothing happens if it runs already.

        Raises LocalError, with the log's name and its last lines, if it doesn't serve in time.
        """
        if self.running:
            return
        program = self.prepare()
        if self._closed:
            raise LocalError(f"{self.name} was closed while it was starting")
        self.process = Process(program, tied=self._tied, remove=self._remove)
        try:
            self.process.wait_until(self.ready, timeout)
        except BaseException:  # at Ctrl-C too, no server may be left behind
            self.process.end()
            raise

    @property
    def running(self) -> bool:
        """Whether the server's processes exist."""
        return self.process is not None and self.process.running

    def stop(self) -> None:
        """Stop the server as an operator would. Its data and its port stay."""
        if self.process is not None:
            self.process.stop()

    def kill(self, number: int) -> None:
        """Send a signal to all the server's processes.

        SIGKILL is a power cut (it returns when they are gone), SIGSTOP a freeze, SIGCONT its end.
        """
        if self.process is None:
            raise LocalError(f"{self.name} isn't running: start() it first")
        self.process.kill(number)

    def close(self) -> None:
        """End the server at once, for good; also while another thread is starting it."""
        self._closed = True
        if self.process is not None:
            self.process.end()

    def _run(self, command: Sequence[str], failure: str, user: int | None = None) -> None:
        """Run a program to its end, as ``user`` if one is given; its output goes to the log.

        Raises LocalError, with ``failure`` and the end of the log, if it exits with an error.
        """
        with self.log.open("ab") as log:
            done = subprocess.run(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                check=False,
            )
        if done.returncode:
            raise LocalError(f"{failure}: {last_lines(self.log)}")
