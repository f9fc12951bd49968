"""A server's process, its guard and its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import attrs

from pipeline.local import guard
from pipeline.local.errors import LocalError, last_lines
from pipeline.local.processes import descendants, send_signal

CHECK_SECONDS = 0.02


@attrs.frozen
class Program:
    """What to run and how to end it."""

    name: str
    """What a person calls it: "Kafka"."""
    argv: list[str]
    directory: Path
    """Its working directory, and where its data and log are."""
    log: Path
    stop_signal: int
    """Asks it to finish and exit."""
    end_signal: int
    """Ends it at once; its data must survive that."""
    user: int | None = None
    """The user and group id to run as; None: the caller's."""
    grace: float = 20.0
    """Seconds between a signal and SIGKILL."""


class Process:
    """A running program under a guard (see :mod:`pipeline.local.guard`).

    With ``tied`` the program ends when this process ends, in whatever way; with ``remove`` too, its
    directory is removed then.

    Raises LocalError if the program can't be started.
    """

    def __init__(self, program: Program, *, tied: bool, remove: bool) -> None:
        self.program = program
        self._lifeline: int | None = None
        inner: int | None = None
        if tied:
            inner, self._lifeline = os.pipe()
        spec = {
            "argv": program.argv,
            "directory": str(program.directory),
            "log": str(program.log),
            "stop_signal": int(program.stop_signal),
            "end_signal": int(program.end_signal),
            "user": program.user,
            "grace": program.grace,
            "lifeline": inner,
            "owner": os.getpid(),
            "remove": str(program.directory) if tied and remove else None,
        }
        try:
            with program.log.open("ab") as log:
                self._guard = _start_guard(spec, log, () if inner is None else (inner,))
        finally:
            if inner is not None:
                os.close(inner)
        self.guard_pid = self._guard.pid
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        assert self._guard.stdout is not None
        with self._guard.stdout as stdout:
            line = stdout.readline()
        if not line:
            self._collect()
            raise LocalError(f"{self.program.name} can't be run: {last_lines(self.program.log)}")
        return int(line)

    @property
    def running(self) -> bool:
        """Whether the program, or anything that it started, is still there."""
        return self._guard.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until ``ready`` returns true.

        Raises LocalError, with the end of the log, if the program exits first or ``seconds`` pass.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self._exits_within(CHECK_SECONDS):
                how = f"exited with {self._guard.returncode} while starting"
                raise LocalError(f"{self.program.name} {how}: {last_lines(self.program.log)}")
            if time.monotonic() > deadline:
                how = f"isn't ready after {seconds:.0f} s"
                raise LocalError(f"{self.program.name} {how}: {last_lines(self.program.log)}")

    def stop(self) -> None:
        """Ask the program to stop and wait until it has; kill it if it doesn't."""
        self._finish(signal.SIGTERM)

    def end(self) -> None:
        """End the program at once and wait until it and all that it started are gone."""
        self._finish(signal.SIGQUIT)

    def kill(self, number: int) -> None:
        """Send a signal to the program and all that it started; with SIGKILL, wait until all are gone.

        SIGSTOP freezes the program and SIGCONT lets it go on.
        """
        reached: set[int] = set()
        while new := [pid for pid in descendants(self.guard_pid) if pid not in reached]:
            for pid in new:
                send_signal(pid, number)
            reached.update(new)
        if number == signal.SIGKILL:
            self._collect()

    def leave_running(self) -> None:
        """Forget the program, which goes on after this process has ended; it must not be tied."""
        self._guard.returncode = 0  # nobody waits for it here, and Popen need not warn of that

    def _finish(self, number: int) -> None:
        if self.running:
            for pid in reversed(descendants(self.guard_pid)):
                send_signal(pid, signal.SIGCONT)
            send_signal(self.guard_pid, number)
        self._collect()

    def _collect(self) -> None:
        try:
            self._guard.wait(self.program.grace + 10)
        except subprocess.TimeoutExpired:
            for pid in (*descendants(self.guard_pid), self.guard_pid):
                send_signal(pid, signal.SIGKILL)
            self._guard.wait()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _exits_within(self, seconds: float) -> bool:
        try:
            self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _start_guard(
    spec: dict[str, object], log: IO[bytes], keep: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, json.dumps(spec)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        pass_fds=keep,
        start_new_session=True,
    )
