"""Java and Maven, which Apache Kafka needs: find them, or say how to get them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from pipeline.local.errors import LocalError

OLDEST = 17
# Debian 12 and Ubuntu have the first; newer Debians only the second, which is Java 21 there.
GET_JAVA = (
    "apt-get update && "
    "(apt-get install --yes openjdk-17-jre-headless || apt-get install --yes default-jre-headless)"
)
GET_MAVEN = "apt-get update && apt-get install --yes maven"


def find_java() -> Path:
    """Return the ``java`` to run: the one in $JAVA_HOME, or else in $PATH.

    Raises LocalError, with the command to type, if there is none or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home, "bin"))) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise LocalError(
            f"Kafka needs Java {OLDEST} or newer, and there is none. Type:\n{GET_JAVA}"
        )
    version = java_version(Path(found))
    if version < OLDEST:
        raise LocalError(
            f"Kafka needs Java {OLDEST} or newer, and {found} is {version}. Type:\n{GET_JAVA}"
        )
    return Path(found)


def java_version(java: Path) -> int:
    """Return the major version that ``java -version`` prints ("1.8.0" is 8).

    Raises LocalError if it prints none.
    """
    try:
        printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise LocalError(f"{java} doesn't run ({problem}). Type:\n{GET_JAVA}") from problem
    match = re.search(r'version "(?:1\.)?(\d+)', printed.stderr)
    if match is None:
        raise LocalError(f"{java} -version prints no version: {printed.stderr.strip()!r}")
    return int(match[1])


def find_maven() -> Path:
    """Return the ``mvn`` to run. Raises LocalError, with the command to type, if there is none."""
    found = shutil.which("mvn")
    if found is None:
        raise LocalError(f"Maven fetches Kafka, and there is no mvn here. Type:\n{GET_MAVEN}")
    return Path(found)
