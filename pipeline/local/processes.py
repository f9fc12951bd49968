"""Processes and what they started, through psutil, which comes with the extra ``local``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.local.errors import INSTALL, LocalError


def descendants(ancestor: int) -> list[int]:
    """Return the process ids of a process's children and of theirs, parents first.

    Raises LocalError if psutil isn't installed.
    """
    psutil = _psutil()
    try:
        return [child.pid for child in psutil.Process(ancestor).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def working_inside(directory: Path) -> Iterator[Any]:
    """Yield the processes whose working directory is ``directory`` or below it.

    Each is a ``psutil.Process`` whose ``info`` has ``cmdline`` and ``exe``; a value is None if this
    user may not read it. Raises LocalError if psutil isn't installed.
    """
    place = directory.resolve()
    for process in _psutil().process_iter(["cwd", "cmdline", "exe"]):
        works_in = process.info["cwd"]
        if works_in and Path(works_in).is_relative_to(place):
            yield process


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process; nothing happens if there is no such process any more."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _psutil() -> Any:
    # Imported here: help and error messages must not need the extra.
    try:
        import psutil
    except ImportError:
        raise LocalError(f"psutil isn't installed. Type:\n{INSTALL}") from None
    return psutil
