"""Where things live on this machine: the cache, the state of ``pipeline local up``."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.local.errors import LocalError


def cache_directory() -> Path:
    """Return where to keep what can be fetched again: ``$XDG_CACHE_HOME/pipeline`` or the like."""
    return _home("XDG_CACHE_HOME", Path(".cache")) / "pipeline"


def state_directory() -> Path:
    """Return where servers that outlive a command keep data: ``$XDG_STATE_HOME/pipeline`` or so.

    For root it is ``/var/lib/pipeline``: Postgres doesn't run as root, and no other user may
    enter root's home.
    """
    if os.geteuid() == 0 and not os.environ.get("XDG_STATE_HOME"):
        return Path("/var/lib/pipeline")
    return _home("XDG_STATE_HOME", Path(".local/state")) / "pipeline"


def _home(variable: str, fallback: Path) -> Path:
    named = os.environ.get(variable)
    if named and Path(named).is_absolute():
        return Path(named)
    try:
        return Path.home() / fallback
    except RuntimeError as problem:
        raise LocalError(f"no home directory is known: set {variable}") from problem


def open_to_others(path: Path) -> bool:
    """Return whether any user can enter ``path``, and so every directory above it."""
    return all(above.stat().st_mode & 0o001 for above in (path, *path.parents))
