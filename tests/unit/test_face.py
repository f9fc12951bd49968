"""The package's public names: all that is promised is there, and nothing else."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from tests.unit.test_architecture import modules

FACE = Path(pipeline.__file__)
NAMES = [name for name in pipeline.__all__ if name != "__version__"]
HEAVY = {"trio", "asyncpg", "asyncio", "msgspec", "attrs", "kafka"}


def typed() -> dict[str, str]:
    """Name → module, of the imports that only a type checker sees."""
    return {
        name.name: str(node.module)
        for node in ast.walk(ast.parse(FACE.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pipeline.")
        for name in node.names
    }


def test_all_is_what_is_there() -> None:
    """Nothing public leaks: neither modules of the standard library, nor a name out of ``__all__``."""
    rooms = {module.split(".")[1] for module in modules() if "." in module}
    helpers = {"import_module", "TYPE_CHECKING"}
    public = {name for name in dir(pipeline) if not name.startswith("_")}
    assert public - rooms - helpers == set(NAMES)
    assert pipeline.__all__ == sorted(pipeline.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_documented_where_it_is_defined(name: str) -> None:
    exported = getattr(pipeline, name)
    assert exported.__name__ == name
    assert inspect.getdoc(exported)
    assert getattr(sys.modules[exported.__module__], name) is exported
    assert exported.__module__ == typed()[name], "the type checker sees the same object"


def test_the_version_is_a_text() -> None:
    assert isinstance(pipeline.__version__, str)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'Transactoin'"):
        _ = pipeline.Transactoin  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, pipeline; print(*({HEAVY} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_a_star_import_gives_every_name() -> None:
    code = "from pipeline import *; print(*(name for name in dir() if name[0] != '_'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == NAMES


def test_the_package_is_typed() -> None:
    assert FACE.with_name("py.typed").is_file()


def test_nothing_inside_imports_from_the_face_but_the_version() -> None:
    """The face is for those outside; a module inside names the module that it needs."""
    found = [
        f"{module}: {name.name}"
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "pipeline"
        for name in node.names
        if name.name != "__version__" and f"pipeline.{name.name}" not in modules()
    ]
    assert found == []
