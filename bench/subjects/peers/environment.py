"""What the peers need and the pipeline doesn't: built once and kept in the user's cache folder.

The name of each build has the digest of its inputs, so a change of a pinned version causes a new build.
A build that was interrupted is not taken for a complete one.
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
from pipeline.local.java import find_java, find_maven
from pipeline.local.places import cache_directory

HERE = Path(__file__).parent
JAVA = HERE / "java"
RUST = HERE / "rust"
GO = HERE / "go"
NEWER = ("python3.12", "python3.13", "python3.14")


class BuildFailed(Exception):
    """A peer can't be built here; the message has the reason."""


@cache
def python() -> Path:
    """Return the interpreter of the peers' virtual environment.

    Raises:
        BuildFailed: it can't be built.
    """
    return _environment("bench-python", HERE / "requirements.txt", sys.executable)


@cache
def http() -> Path:
    """Return the interpreter of the virtual environment with the other HTTP servers.

    Raises:
        BuildFailed: it can't be built.
    """
    return _environment("bench-http", HERE / "requirements-http.txt", sys.executable)


@cache
def pyrallel() -> Path:
    """Return the interpreter of pyrallel-consumer's virtual environment.

    Raises:
        BuildFailed: it can't be built, or there is no Python 3.12 or newer.
    """
    return _environment("bench-pyrallel", HERE / "requirements-pyrallel.txt", _newer_python())


def _newer_python() -> str:
    """Find a Python of at least 3.12: this one, one on PATH, or one of pyenv's."""
    if sys.version_info >= (3, 12):
        return sys.executable
    known = [found for name in NEWER if (found := shutil.which(name))]
    known += [str(found) for found in Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")]
    for interpreter in sorted(known):
        tried = subprocess.run([interpreter, "-c", "import venv"], capture_output=True, check=False)
        if tried.returncode == 0:
            return interpreter
    raise BuildFailed("pyrallel-consumer needs Python 3.12 or newer, and there is none")


def _environment(name: str, requirements: Path, base: str) -> Path:
    place = cache_directory() / f"{name}-{_digest([requirements], base + sys.version)}"
    interpreter, complete = place / "bin" / "python", place / "complete"
    if not complete.exists():  # built in its place: a virtual environment can't be moved
        shutil.rmtree(place, ignore_errors=True)
        log = _log(name)
        _run([base, "-m", "venv", str(place)], log)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
        _run(pip, log)
        complete.touch()
    return interpreter


@cache
def parallel_consumer() -> str:
    """Return the class path of the Parallel Consumer and its compiled handler.

    Raises:
        BuildFailed: it can't be built.
        LocalError: Java or Maven is missing.
    """
    inputs = [JAVA / "parallel-consumer.xml", JAVA / "Upserts.java"]

    def build(place: Path, log: Path) -> None:
        _dependencies(JAVA / "parallel-consumer.xml", place / "lib", log)
        jars = sorted(str(jar) for jar in (place / "lib").glob("*.jar"))
        (compiler,) = (jar for jar in jars if Path(jar).name.startswith("ecj-"))
        command = [str(find_java()), "-jar", compiler, "-17", "-nowarn", "-cp", ":".join(jars)]
        _run([*command, "-d", str(place / "classes"), str(JAVA / "Upserts.java")], log)

    place = _built("bench-parallel-consumer", inputs, build)
    return f"{place}/classes:{place}/lib/*"


@cache
def connect() -> Path:
    """Return a directory with Kafka Connect (``lib``) and the JDBC sink (``plugins``).

    Raises:
        BuildFailed: it can't be built.
        LocalError: Java or Maven is missing.
    """

    def build(place: Path, log: Path) -> None:
        _dependencies(JAVA / "connect.xml", place / "lib", log)
        (archive,) = (place / "lib").glob("*.tar.gz")
        (place / "plugins").mkdir()
        shutil.unpack_archive(archive, place / "plugins", filter="data")
        archive.unlink()

    return _built("bench-connect", [JAVA / "connect.xml"], build)


@cache
def rust() -> Path:
    """Return the program of the Rust loop.

    Raises:
        BuildFailed: it can't be built, or there is no cargo.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise BuildFailed("the Rust loop needs cargo, and there is none on PATH")
    manifest = RUST / "Cargo.toml"
    inputs = [manifest, RUST / "Cargo.lock", RUST / "src" / "main.rs"]

    def build(place: Path, log: Path) -> None:
        command = [cargo, "build", "--release", "--locked", "--quiet"]
        with tempfile.TemporaryDirectory() as target:
            _run([*command, "--manifest-path", str(manifest), "--target-dir", target], log)
            shutil.copy(Path(target) / "release" / "upserts", place / "upserts")

    return _built("bench-rust", inputs, build) / "upserts"


@cache
def go() -> Path:
    """Return the program of the endpoint in Go.

    Raises:
        BuildFailed: it can't be built, or there is no go.
    """
    compiler = shutil.which("go")
    if compiler is None:
        raise BuildFailed("the endpoint in Go needs go, and there is none on PATH")

    def build(place: Path, log: Path) -> None:
        _run([compiler, "build", "-C", str(GO), "-o", str(place / "records"), "."], log)

    inputs = [GO / name for name in ("go.mod", "go.sum", "main.go")]
    return _built("bench-go", inputs, build) / "records"


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
