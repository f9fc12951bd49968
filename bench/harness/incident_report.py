"""Lines, the table and the picture of `bench.incident`, and the page that has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness import page
from bench.pictures.draw import draw

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "incident.json"
PAGE = ROOT / "docs" / "design" / "sharding.md"

COLUMNS = (
    "", "", "time lag p50", "p99", "age at commit p50", "p99", "CPU, instance", "CPU, Postgres",
    "busy connections", "wrong rows",
)  # fmt: skip


def line(kind: str, way: str, found: Mapping[str, Any]) -> str:
    """Format a run as a line."""
    lag, age = found["time_lag"], found["age"]
    return (
        f"{kind:<14} {way:<9} the others' time lag {page.seconds(lag['p50']):>8} "
        f"{page.seconds(lag['p99']):>8}  age {page.seconds(age['p50']):>8} "
        f"{page.seconds(age['p99']):>8}  CPU {page.share(found['cpu']):>5} "
        f"Postgres {page.share(found['postgres_cpu']):>5}  busy {found['busy']:.1f}"
        f"  wrong {found['wrong']}"
    )


def table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """Format all runs as a table."""
    rows = [
        [
            kind, way, *(page.seconds(run["time_lag"][name]) for name in ("p50", "p99")),
            *(page.seconds(run["age"][name]) for name in ("p50", "p99")),
            page.share(run["cpu"]), page.share(run["postgres_cpu"]), f"{run['busy']:.1f}",
            run["wrong"],
        ]
        for kind, ways in kinds.items()
        for way, run in ways.items()
    ]  # fmt: skip
    return page.table(COLUMNS, rows, texts=2)


def write(file: Path) -> None:
    """Draw the picture beside a file of results; if it is the kept one, fill the page too."""
    document = json.loads(file.read_text())
    draw("incident", file, file.with_suffix(".svg"))
    shown = table(document["kinds"])
    if file == RESULTS:
        text = f"{page.measured_on(document)}\n\n{shown}"
        PAGE.write_text(page.filled(PAGE.read_text(), {"incident": text}))
        print(f"wrote {PAGE}")
    print(f"\n{shown}")
