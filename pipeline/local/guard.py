"""The guard: a small process between a server and whoever started it. Run as a script.

It is the server's parent, and it ends the server in three ways:

- SIGTERM: ask the server to stop (``stop_signal``), and kill it after ``grace`` seconds.
- SIGQUIT: end it at once (``end_signal``).
- The owner died, however it died: end it at once and remove its directory. The owner holds the
  write end of a pipe, the lifeline, whose other end is read here; the kernel closes it with the
  owner. A child that the owner forked may hold it open longer, so once a second the guard also
  looks whether it has been given another parent.

Whichever way, and also when the server ends by itself, the guard then kills every process that
descends from it: it is their "subreaper", so a grandchild whose parent died (a Postgres backend
whose postmaster was killed) becomes the guard's child and can't escape. Only then does it exit,
so that whoever sees the guard gone knows that everything is gone.

If the guard itself is killed, the kernel kills the server (PR_SET_PDEATHSIG). That alone would
not do: it follows the *thread* that started the server, and it is not inherited by grandchildren.

Only the standard library is imported, and little of it: ``python -I -S guard.py SPEC`` must start
quickly. SPEC is the JSON of ``pipeline.local.process.Program`` and lifetime; the server's pid is
written to standard output as one line.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP)
LIBC = ctypes.CDLL(None, use_errno=True)


class Guard:
    """One server and its guard's wake-up pipe."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.asked: set[int] = set()
        self.exit_code: int | None = None
        self.woken, wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in HANDLED:
            # SIGINT and SIGHUP are noted and not acted on. Not SIG_IGN: the server would inherit it.
            signal.signal(number, lambda number, _: self.asked.add(number))
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.server = self.start()

    def start(self) -> int:
        """Start the server and return its process id."""
        guard = os.getpid()

        def die_with_guard() -> None:
            LIBC.prctl(PR_SET_PDEATHSIG, self.spec["end_signal"], 0, 0, 0)
            if os.getppid() != guard:
                os._exit(1)

        owner = self.spec["user"]
        as_user = {} if owner is None else {"user": owner, "group": owner, "extra_groups": []}
        with open(self.spec["log"], "ab") as log:
            server = subprocess.Popen(
                self.spec["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_guard,  # noqa: PLW1509 (there is one thread)
                process_group=0,
                **as_user,
            )
        server.returncode = 0  # reaped here, not by subprocess
        return server.pid

    def watch(self) -> None:
        """Wait until the server ends, or until it has to be ended; then leave nothing behind."""
        while self.exit_code is None:
            self.wait(1.0)
            if signal.SIGQUIT in self.asked or self.owner_died():
                self.end(self.spec["end_signal"])
                break
            if signal.SIGTERM in self.asked:
                self.end(self.spec["stop_signal"])
                break
        self.sweep()
        if self.owner_died() and self.spec["remove"]:
            shutil.rmtree(self.spec["remove"], ignore_errors=True)
            with contextlib.suppress(OSError):  # the last guard to go removes what held both
                os.rmdir(os.path.dirname(self.spec["remove"]))

    def wait(self, seconds: float) -> None:
        """Wait for a signal, the owner's death or the time, and reap."""
        lifeline = self.spec["lifeline"]
        watched = [self.woken] if lifeline is None else [self.woken, lifeline]
        select.select(watched, [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self.woken, 4096)
        self.reap(os.WNOHANG)

    def owner_died(self) -> bool:
        """Return whether the process that started this guard is gone."""
        lifeline = self.spec["lifeline"]
        if lifeline is None:
            return False
        closed = bool(select.select([lifeline], [], [], 0)[0])
        return closed or os.getppid() != self.spec["owner"]

    def reap(self, flags: int) -> bool:
        """Collect children that ended; return whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, flags)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.server:
                self.exit_code = os.waitstatus_to_exitcode(status)
            if not flags:
                return True

    def end(self, number: int) -> None:
        """Signal the server and wait for its end, ``grace`` seconds at most."""
        deadline = time.monotonic() + self.spec["grace"]
        if self.exit_code is None:
            os.kill(self.server, number)
            os.kill(self.server, signal.SIGCONT)
        while self.exit_code is None and time.monotonic() < deadline:
            select.select([self.woken], [], [], 0.1)
            with contextlib.suppress(BlockingIOError):
                os.read(self.woken, 4096)
            self.reap(os.WNOHANG)

    def sweep(self) -> None:
        """Kill children until there is none; those of a killed child are the next round's."""
        while self.reap(os.WNOHANG):
            for pid, parent in parents().items():
                if parent == os.getpid():
                    os.kill(pid, signal.SIGKILL)
            self.reap(0)


def parents() -> dict[int, int]:
    """Return process → parent of every process on this machine, zombies too."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
            found[int(name)] = int(stat.read().rpartition(b")")[2].split()[1])
    return found


def main() -> None:
    """Guard the server that the first argument describes."""
    spec = json.loads(sys.argv[1])
    os.chdir(spec["directory"])
    guard = Guard(spec)
    os.write(1, b"%d\n" % guard.server)
    os.dup2(2, 1)
    guard.watch()
    code = guard.exit_code
    sys.exit(code if code is not None and code >= 0 else 128 + abs(code or 0))


if __name__ == "__main__":
    main()
