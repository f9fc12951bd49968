"""The machine that a figure was measured on, and the versions of all software involved."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from pipeline.local.binaries import installed
from pipeline.local.jars import VERSION as KAFKA

OURS = (
    "kafka-to-postgres",
    "kafka-python",
    "aiokafka",
    "asyncpg",
    "httptools",
    "orjson",
    "trio",
    "trio-asyncio",
)


def machine() -> dict[str, object]:
    """Describe the machine: processor, usable cores, memory, kernel, load average of one minute."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of this checkout, the interpreter, both servers, Java and the packages."""
    found = {name: version(name) for name in OURS}
    commit = _output("git", "rev-parse", "--short", "HEAD")
    return {
        "commit": commit,
        "python": platform.python_version(),
        "kafka": KAFKA,
        "postgres": _output(str(installed() / "bin" / "postgres"), "--version"),
        "java": _output("java", "--version").partition("\n")[0],
        **found,
    }


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
