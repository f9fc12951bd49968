"""What Kafka and Postgres have in common: a port, a directory, a log, and a life."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from pipeline.local.errors import LocalError
from pipeline.local.ports import free_port
from pipeline.local.process import Process, Program


class Server(ABC):
    """One server on this machine, on a port of its own that it keeps when it is started again.

    ``tied`` and ``remove``: see :class:`pipeline.local.process.Process`.
    """

    name: str

    def __init__(self, directory: Path, *, tied: bool = True, remove: bool = False) -> None:
        self.directory = directory
        self.log = directory / f"{self.name.lower()}.log"
        self.port = free_port()
        self.process: Process | None = None
        self._tied = tied
        self._remove = remove
        self._closed = False

    @abstractmethod
    def prepare(self) -> Program:
        """Make the data directory where there is none, and say what to run. May take seconds."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether the started server serves."""

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and return when it serves; nothing happens where it runs already.

        Raises LocalError, with the log's name and its last lines, where it doesn't get there.
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
        """Whether the server's processes are there."""
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
        """End the server at once, for good; also where another thread is starting it."""
        self._closed = True
        if self.process is not None:
            self.process.end()
