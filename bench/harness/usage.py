"""CPU time and memory of processes, from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.local.processes import descendants

TICKS = os.sysconf("SC_CLK_TCK")


def tree(guards: Iterable[int]) -> list[int]:
    """Return the ids of all descendants of the given processes."""
    return [pid for guard in guards for pid in descendants(guard)]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Sum user and system time over the processes' threads and their children that have ended."""
    ticks = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue  # it has ended: its time is counted with its parent's
        # The name in brackets may hold spaces; utime, stime, cutime, cstime are fields 14 to 17.
        fields = stat.rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def peak_megabytes(pids: Iterable[int]) -> float:
    """Sum the processes' peak resident sizes, in MB (10^6 bytes)."""
    kilobytes = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        kilobytes += int(found[1]) if found else 0
    return kilobytes * 1024 / 1e6
