"""What the peers need and the pipeline doesn't: built once, kept in the user's cache folder.

Each build is made beside its place and moved there whole, under a name that holds the digest of its
inputs: a change of a pinned version builds anew, and a build that was cut off leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from pipeline.local.errors import last_lines
from pipeline.local.java import find_maven
from pipeline.local.places import cache_directory

HERE = Path(__file__).parent
JAVA = HERE / "java"


class BuildFailed(Exception):
    """A peer can't be built here; the message says why."""


@cache
def python() -> Path:
    """The interpreter of the peers' virtual environment."""
    requirements = HERE / "requirements.txt"
    place = cache_directory() / f"bench-python-{_digest([requirements], sys.version)}"
    interpreter = place / "bin" / "python"
    if not interpreter.exists():  # in its place: a virtual environment can't be moved
        shutil.rmtree(place, ignore_errors=True)
        log = _log("bench-python")
        try:
            _run([sys.executable, "-m", "venv", str(place)], log)
            pip = [str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
            _run(pip, log)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    return interpreter


@cache
def parallel_consumer() -> str:
    """The class path of the Parallel Consumer and its handler, compiled."""
    inputs = [JAVA / "parallel-consumer.xml", JAVA / "Upserts.java"]

    def build(place: Path, log: Path) -> None:
        _dependencies(JAVA / "parallel-consumer.xml", place / "lib", log)
        (compiler,) = (place / "lib").glob("ecj-*.jar")
        command = ["java", "-jar", str(compiler), "-17", "-nowarn", "-cp", f"{place}/lib/*"]
        jars = ":".join(str(jar) for jar in sorted((place / "lib").glob("*.jar")))
        command[-1] = jars
        _run([*command, "-d", str(place / "classes"), str(JAVA / "Upserts.java")], log)

    place = _built("bench-parallel-consumer", inputs, build)
    return f"{place}/classes:{place}/lib/*"


@cache
def connect() -> Path:
    """Kafka Connect with the JDBC sink: a directory with ``lib`` and ``plugins``."""

    def build(place: Path, log: Path) -> None:
        _dependencies(JAVA / "connect.xml", place / "lib", log)
        (archive,) = (place / "lib").glob("*.tar.gz")
        (place / "plugins").mkdir()
        shutil.unpack_archive(archive, place / "plugins", filter="data")
        archive.unlink()

    return _built("bench-connect", [JAVA / "connect.xml"], build)


def _built(name: str, inputs: Sequence[Path], build: Callable[[Path, Path], None]) -> Path:
    place = cache_directory() / f"{name}-{_digest(inputs)}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{place.name}.", dir=place.parent) as made:
            build(Path(made), _log(name))
            Path(made).rename(place)
            Path(made).mkdir()  # for TemporaryDirectory to remove
    return place


def _dependencies(pom: Path, target: Path, log: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        copy = shutil.copy(pom, Path(directory) / "pom.xml")
        maven = [str(find_maven()), "--quiet", "--batch-mode", "--file", str(copy)]
        _run([*maven, "dependency:copy-dependencies", f"-DoutputDirectory={target}"], log)


def _run(command: Sequence[str], log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        raise BuildFailed(f"{' '.join(command[:4])} … failed: {last_lines(log)}")


def _log(name: str) -> Path:
    print(f"building {name}, once ...", file=sys.stderr, flush=True)
    cache_directory().mkdir(parents=True, exist_ok=True)
    log = cache_directory() / f"{name}.install.log"
    log.unlink(missing_ok=True)
    return log


def _digest(files: Sequence[Path], extra: str = "") -> str:
    digest = hashlib.sha256(extra.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
