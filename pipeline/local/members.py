"""Which processes belong to the servers in a directory, whatever a state file says."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from pipeline.local.processes import send_signal, working_inside
from pipeline.local.waiting import wait_until

GUARD = "/pipeline/local/guard.py"
"""The end of the script's path: a guard that another installation started is a guard too."""

KAFKA = ("kafka.Kafka", "kafka.tools.StorageTool")
POSTGRES = ("postgres", "initdb")


def guards(directory: Path) -> list[int]:
    """Return the process ids of the guards of servers in this directory."""
    return [process.pid for process in working_inside(directory) if _is_guard(process)]


def members(directory: Path) -> list[int]:
    """Return the process ids of guards, servers, and what these started, in this directory.

    A process is a member if it works there (guards, Kafka and Postgres never leave their directory)
    and is one of these programs: a shell or an editor that somebody runs there is not.
    """
    return [
        process.pid
        for process in working_inside(directory)
        if _is_guard(process) or _is_server(process)
    ]


def end_members(directory: Path, grace: float = 30.0) -> None:
    """Leave no member: ask the guards to end, and kill what is there after ``grace`` seconds.

    A server whose guard is gone is killed without being asked: Kafka and Postgres recover.
    """

    def all_gone() -> bool:
        if not guards(directory):
            for pid in members(directory):
                send_signal(pid, signal.SIGKILL)
        return not members(directory)

    for pid in members(directory):
        send_signal(pid, signal.SIGCONT)
    for pid in guards(directory):
        send_signal(pid, signal.SIGTERM)
    wait_until(all_gone, grace)
    for pid in guards(directory):
        send_signal(pid, signal.SIGKILL)
    wait_until(all_gone, grace)


def _is_guard(process: Any) -> bool:
    return any(argument.endswith(GUARD) for argument in process.info["cmdline"] or ())


def _is_server(process: Any) -> bool:
    if any(argument in KAFKA for argument in process.info["cmdline"] or ()):
        return True
    return Path((process.info["exe"] or "").removesuffix(" (deleted)")).name in POSTGRES
