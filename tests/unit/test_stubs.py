"""The stubs of kafka-python and aiokafka declare what the installed versions have."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import has

STUBS = Path(__file__).parents[1] / "stubs"
FILES = sorted(STUBS.rglob("*.pyi"))


def module_of(path: Path) -> str:
    """The module that a stub is of."""
    steps = path.relative_to(STUBS).with_suffix("").parts
    return ".".join(steps[:-1] if steps[-1] == "__init__" else steps)


def mistakes(tree: ast.Module, module: str) -> list[str]:
    """What a module's stub declares and the module does not have."""
    return list(_mistakes(tree, import_module(module), module))


def _mistakes(node: ast.Module | ast.ClassDef, found: Any, place: str) -> Iterator[str]:
    for step in node.body:
        for name in _names(step):
            if not has(found, name):
                yield f"{place} has no {name}"
                continue
            inner: Any = getattr(found, name, None)
            if isinstance(step, ast.ClassDef):
                bases = {base.__name__ for base in inner.__mro__} | {"NamedTuple"}
                for base in map(_last_name, step.bases):
                    if base not in bases:
                        yield f"{place}.{name} is no {base}"
                yield from _mistakes(step, inner, f"{place}.{name}")
            elif isinstance(step, ast.FunctionDef | ast.AsyncFunctionDef) and inspect.isfunction(
                inner
            ):
                if inspect.iscoroutinefunction(inner) != isinstance(step, ast.AsyncFunctionDef):
                    yield f"{place}.{name}: one is async, the other is not"
                for parameter in sorted(
                    _parameters(step) - set(inspect.signature(inner).parameters)
                ):
                    yield f"{place}.{name} has no parameter {parameter}"


def _names(step: ast.stmt) -> Iterator[str]:
    match step:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            if name != "__getattr__":  # stands for whatever else there is
                yield name
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            yield name
        case ast.ImportFrom(names=names):
            yield from (alias.name for alias in names if alias.asname == alias.name)


def _parameters(step: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Those that are named; ``*args`` and ``**options`` stand for whatever else there is."""
    return {arg.arg for arg in [*step.args.args, *step.args.kwonlyargs]}


def _last_name(expression: ast.expr) -> str:
    return ast.unparse(expression).rpartition(".")[2]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_all_that_a_stub_declares_is_there(path: Path) -> None:
    assert mistakes(ast.parse(path.read_text()), module_of(path)) == []


def test_each_sort_of_mistake_is_seen() -> None:
    """The installed modules stand for newer ones that have dropped or changed something."""
    stub = """\
from kafka.errors import Gone as Gone
class KafkaError(RuntimeError):
    gone: int
class GoneError: ...
async def for_code(code: int) -> type[KafkaError]: ...
"""
    assert mistakes(ast.parse(stub), "kafka.errors") == [
        "kafka.errors has no Gone",
        "kafka.errors.KafkaError is no RuntimeError",
        "kafka.errors.KafkaError has no gone",
        "kafka.errors has no GoneError",
        "kafka.errors.for_code: one is async, the other is not",
        "kafka.errors.for_code has no parameter code",
    ]


def test_the_stubs_are_those_of_the_libraries_that_are_pinned() -> None:
    assert {module_of(path).partition(".")[0] for path in FILES} == {"kafka", "aiokafka"}
