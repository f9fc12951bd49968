"""The tables of `bench.hot_key` and `bench.contention`, and the page that has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness import page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design" / "sharding.md"


def results(name: str) -> Path:
    """Return the file of results behind the page."""
    return ROOT / "bench" / "results" / f"{name}.json"


def table(runs: Mapping[str, Mapping[str, Any]], *, rows: bool) -> str:
    """Format all runs as a table, with the rows written or with the deadlocks."""
    columns = [
        "", "records/s", "rows written per record" if rows else "deadlocks",
        "sessions that wait for a lock, mean", "most", "rows with an older value",
    ]  # fmt: skip
    lines = [
        [
            name, f"{run['rate']:,.0f}",
            f"{run['rows'] / run['records']:.2f}" if rows else run["deadlocks"],
            f"{run['waiting']:.1f}", run["waiting_most"], run["stale"],
        ]
        for name, run in runs.items()
    ]  # fmt: skip
    return page.table(columns, lines)


def write(name: str, file: Path, *, rows: bool) -> None:
    """Print the table; if the file of results is the kept one, fill the page too."""
    document = json.loads(file.read_text())
    shown = table(document["runs"], rows=rows)
    if file == results(name):
        text = f"{page.measured_on(document)}\n\n{shown}"
        PAGE.write_text(page.filled(PAGE.read_text(), {name: text}))
        print(f"wrote {PAGE}")
    print(f"\n{shown}")
