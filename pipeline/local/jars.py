"""Apache Kafka's jars, fetched once by Maven and kept in the cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.local.errors import LocalError, last_lines
from pipeline.local.java import find_maven
from pipeline.local.places import cache_directory

VERSION = "4.1.1"
HERE = Path(__file__).parent


def kafka_jars() -> Path:
    """Return the directory with Kafka's jars; fetch it (7 s, 43 MB) if it isn't there yet.

    It is built beside its place and moved there whole, so an install that was cut off leaves
    nothing that looks complete, and two at once don't harm each other: the second to finish
    finds the place taken and uses what is there.

    Raises LocalError if Maven is missing or fails.
    """
    place = cache_directory() / f"kafka-{VERSION}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{place.name}.", dir=place.parent) as name:
        jars = Path(name, "jars")
        _fetch(jars, place.parent / f"{place.name}.install.log")
        try:
            jars.rename(place)
        except OSError:
            if not place.is_dir():
                raise
    return place


def _fetch(jars: Path, log: Path) -> None:
    shutil.copy(HERE / "pom.xml", jars.parent / "pom.xml")
    command = [
        *(str(find_maven()), "--quiet", "--batch-mode", "--file", str(jars.parent / "pom.xml")),
        *("dependency:copy-dependencies", f"-DoutputDirectory={jars}", "-DincludeScope=runtime"),
    ]
    print(f"fetching Apache Kafka {VERSION} with Maven, once ...", file=sys.stderr, flush=True)
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode or not any(jars.glob("kafka_*.jar")):
        raise LocalError(f"Maven could not fetch Kafka {VERSION}: {last_lines(log)}")
