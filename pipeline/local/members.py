"""Which processes belong to servers in a directory, whatever any state file says."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from pipeline.local.waiting import wait_until

GUARD = b"/pipeline/local/guard.py"
"""The end of the script's path: a guard that another installation started is one too."""


def guards(directory: Path) -> list[int]:
    """The guards of servers in this directory."""
    return [pid for pid in _inside(directory) if _is_guard(pid)]


def members(directory: Path) -> list[int]:
    """Guards and servers, and what these started, in this directory.

    A process belongs to it when it works there (guards, Kafka and Postgres never leave their
    directory) and is one of these programs: somebody's shell or editor in there is not.
    """
    return [pid for pid in _inside(directory) if _is_guard(pid) or _is_server(pid)]


def end_members(directory: Path, grace: float = 30.0) -> None:
    """Leave no member: ask the guards, and kill what is there after ``grace`` seconds.

    A server whose guard is gone is killed without being asked: Kafka and Postgres recover.
    """

    def all_gone() -> bool:
        if not guards(directory):
            for pid in members(directory):
                _signal(pid, signal.SIGKILL)
        return not members(directory)

    for pid in members(directory):
        _signal(pid, signal.SIGCONT)
    for pid in guards(directory):
        _signal(pid, signal.SIGTERM)
    wait_until(all_gone, grace)
    for pid in guards(directory):
        _signal(pid, signal.SIGKILL)
    wait_until(all_gone, grace)


def _inside(directory: Path) -> list[int]:
    place = directory.resolve()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            # A removed directory reads "/path (deleted)".
            works_in = Path(os.readlink(f"/proc/{name}/cwd").removesuffix(" (deleted)"))
            if works_in.is_relative_to(place):
                found.append(int(name))
    return found


def _is_guard(pid: int) -> bool:
    return any(argument.endswith(GUARD) for argument in _arguments(pid))


def _is_server(pid: int) -> bool:
    arguments = _arguments(pid)
    if b"kafka.Kafka" in arguments or b"kafka.tools.StorageTool" in arguments:
        return True
    with contextlib.suppress(OSError):
        program = Path(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
        return program.name in ("postgres", "initdb")
    return False


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
