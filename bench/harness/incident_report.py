"""Lines and tables of `bench.incident`, and the page that has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness import page

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "incident.json"
PAGE = ROOT / "docs" / "design" / "sharding.md"

COLUMNS = (
    "", "", "time lag p50", "p99", "highest", "age at commit p50", "p99", "CPU, instance",
    "CPU, Postgres", "busy connections", "lost or doubled",
)  # fmt: skip
OPENED = (
    "", "there is a lane after", "time lag until then p50", "highest", "from then on p50", "p99",
    "highest",
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
            kind, way, *map(page.seconds, run["time_lag"].values()),
            *(page.seconds(run["age"][name]) for name in ("p50", "p99")),
            page.share(run["cpu"]), page.share(run["postgres_cpu"]), f"{run['busy']:.1f}",
            run["wrong"],
        ]
        for kind, ways in kinds.items()
        for way, run in ways.items()
    ]  # fmt: skip
    return page.table(COLUMNS, rows, texts=2)


def table_of_lanes(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """Format what came before a lane was open, and what after."""
    rows = []
    for kind, ways in kinds.items():
        run = ways["lanes"]
        if run["opened"] is not None:
            until, since = run["time_lag_until_opened"], run["time_lag_since_opened"]
            times = [run["opened"], until["p50"], until["highest"], *since.values()]
            rows.append([kind, *map(page.seconds, times)])
    return page.table(OPENED, rows)


def write(file: Path) -> None:
    """Print the tables of a file of results; if it is the kept one, fill the page too."""
    document = json.loads(file.read_text())
    shown = f"{table(document['kinds'])}\n\n{table_of_lanes(document['kinds'])}"
    if file == RESULTS:
        text = f"{page.measured_on(document)}\n\n{shown}"
        PAGE.write_text(page.filled(PAGE.read_text(), {"incident": text}))
        print(f"wrote {PAGE}")
    print(f"\n{shown}")
