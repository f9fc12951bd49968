"""What processes have used so far, from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.local.processes import descendants

TICKS = os.sysconf("SC_CLK_TCK")


def tree(guards: Iterable[int]) -> list[int]:
    """All processes below the given ones."""
    return [pid for guard in guards for pid in descendants(guard)]


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of all threads of processes, and of their children that have ended."""
    ticks = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue  # ended: its parent has its time now
        # The name in brackets may hold spaces; utime, stime, cutime, cstime are fields 14 to 17.
        fields = stat.rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def peak_megabytes(pids: Iterable[int]) -> float:
    """The sum of the processes' peak resident sizes, in MB (10^6 bytes)."""
    kilobytes = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        kilobytes += int(found[1]) if found else 0
    return kilobytes * 1024 / 1e6
