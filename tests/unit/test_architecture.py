"""The rooms of the house, and which may import which.

`ARROWS` is the table: a room may import the rooms that it names, and no other. It goes from the top
down, and a room names only rooms below it, so there can be no circle. The picture in
``docs/design/overview.md`` is printed from it: ``python -m tests.unit.test_architecture`` writes it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline"
PICTURE = ROOT / "docs" / "design" / "overview.md"
BEGIN, END = "<!-- rooms: begin -->", "<!-- rooms: end -->"

ARROWS: Mapping[str, tuple[str, ...]] = {
    "__main__": ("cli",),
    "cli": ("check", "operate", "demo", "local", "service", "ingest", "top", "kafka",
            "postgres.ledger", "supervise", "observe", "contracts", "config", "errors",
            "runtime", "pipeline"),
    "testing": ("postgres.handlers", "postgres.connections", "records"),
    "pipeline": ("postgres.handlers", "postgres.sink", "postgres.connections", "records", "errors"),
    "demo": ("local", "partitioner", "postgres.ledger", "postgres.connections", "observe", "errors",
             "runtime"),
    "check": ("operate", "consumer", "kafka", "partitioner", "postgres.handlers", "postgres.sink",
              "postgres.ledger", "postgres.connections", "contracts", "config", "records", "errors"),
    "operate": ("kafka", "postgres.sink", "postgres.ledger", "postgres.connections", "contracts",
                "config", "records", "errors", "runtime"),
    "local": (),
    "service": ("stores", "dashboard", "consumer", "kafka", "postgres.connections", "supervise",
                "observe", "contracts", "config", "records", "runtime"),
    "stores": ("postgres.store", "postgres.handlers", "postgres.sink", "postgres.ledger",
               "postgres.connections", "observe", "contracts", "config", "records", "errors",
               "runtime"),
    "ingest": ("dashboard", "web", "kafka", "postgres.ledger", "postgres.connections", "supervise",
               "observe", "partitioner", "contracts", "config", "records", "errors", "runtime"),
    "top": ("web", "config", "errors"),
    "dashboard": ("observe", "web", "contracts", "config"),
    "supervise": ("observe", "contracts", "config", "errors"),
    "consumer": ("observe", "contracts", "records", "errors"),
    "kafka": ("contracts", "config", "records", "errors", "runtime"),
    "postgres.store": ("postgres.ledger", "postgres.connections", "contracts", "records",
                       "errors", "runtime"),
    "postgres.handlers": ("postgres.ledger", "postgres.connections", "records", "errors"),
    "postgres.sink": ("postgres.ledger", "postgres.connections", "config", "records"),
    "postgres.ledger": ("postgres.connections", "contracts", "records", "errors"),
    "postgres.connections": ("observe", "contracts", "config", "records", "errors", "runtime"),
    "observe": ("web", "contracts", "config", "records", "errors"),
    "web": ("errors",),
    "contracts": ("records",),
    "config": ("records",),
    "partitioner": (),
    "records": (),
    "errors": (),
    "runtime": (),
}  # fmt: skip
"""From the top down; ``pipeline`` is the package's own ``__init__``."""

KAFKA_ROOMS = {"kafka", "partitioner", "config", "local", "demo", "operate", "check"}
"""Rooms that may import kafka-python; the client that consumes is in ``kafka`` alone."""


def room_of(module: str) -> str:
    """The room of a module: its first name below ``pipeline``, or two of them below ``postgres``."""
    steps = module.split(".")[1:]
    if not steps:
        return "pipeline"
    return ".".join(steps[:2]) if steps[0] == "postgres" and len(steps) > 1 else steps[0]


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, with its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        steps = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(steps[:-1] if steps[-1] == "__init__" else steps)] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The package's own modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


def others(path: Path) -> set[str]:
    """The packages of other people that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@cache
def arrows() -> dict[str, dict[str, list[str]]]:
    """Room → room it imports → the imports, as they stand in the code."""
    known = modules()
    found: dict[str, dict[str, list[str]]] = {room_of(module): {} for module in known}
    for module, path in known.items():
        for target in imported(path, known):
            if room_of(target) != room_of(module):
                found[room_of(module)].setdefault(room_of(target), []).append(
                    f"{module} imports {target}"
                )
    found.pop("postgres", None)  # the folder's own __init__ holds a docstring
    return found


def test_the_table_goes_from_the_top_down() -> None:
    """So no circle of rooms is possible."""
    order = list(ARROWS)
    for room, below in ARROWS.items():
        for other in below:
            assert order.index(other) > order.index(room), f"{room} → {other} goes up"


def test_every_room_is_in_the_table() -> None:
    assert set(arrows()) == set(ARROWS)


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_imports_what_the_table_allows(room: str) -> None:
    against = [
        line
        for other, lines in arrows()[room].items()
        if other not in ARROWS[room]
        for line in lines
    ]
    assert not against, "\n".join(against)


@pytest.mark.parametrize("room", ARROWS)
def test_the_table_allows_no_more_than_is_used(room: str) -> None:
    assert set(ARROWS[room]) <= set(arrows()[room])


def test_modules_of_one_room_import_in_no_circle() -> None:
    known = modules()
    below = {module: set(imported(path, known)) for module, path in known.items()}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        if module in done:
            return
        assert module not in way, " → ".join((*way[way.index(module) :], module))
        for target in sorted(below[module]):
            if not module.startswith(f"{target}."):  # a package's own __init__ is above its modules
                visit(target, (*way, module))
        done.add(module)

    for module in below:
        visit(module, ())


def test_only_the_service_knows_both_the_consumer_and_the_store() -> None:
    known = modules()
    both = set()
    for module, path in known.items():
        below = {room_of(target) for target in imported(path, known)}
        if "consumer" in below and below & {"stores", "postgres.store"}:
            both.add(room_of(module))
    assert both == {"service"}


def test_only_the_seam_imports_kafka_python() -> None:
    rooms = {room_of(module) for module, path in modules().items() if "kafka" in others(path)}
    assert rooms <= KAFKA_ROOMS


def picture() -> str:
    """The rooms, a floor a line: a room stands above all that it imports."""
    floors: dict[str, int] = {}
    for room in reversed(list(ARROWS)):
        floors[room] = 1 + max((floors[below] for below in ARROWS[room]), default=-1)
    floors.pop("__main__")
    floors.pop("pipeline")
    lines = [
        "   ".join(room for room in floors if floors[room] == floor)
        for floor in sorted(set(floors.values()), reverse=True)
    ]
    return "\n".join(["```", *lines, "```"])


def with_picture(text: str) -> str:
    """The document with the picture as the table gives it now."""
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", f"{BEGIN}\n{picture()}\n{END}", text, flags=re.S
    )


def test_the_picture_in_the_overview_is_the_table() -> None:
    text = PICTURE.read_text()
    assert BEGIN in text
    assert text == with_picture(text), "write it anew: python -m tests.unit.test_architecture"


if __name__ == "__main__":
    PICTURE.write_text(with_picture(PICTURE.read_text()))
