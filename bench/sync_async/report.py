"""Lines, tables and the page that has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness.page import filled, seconds, share
from bench.pictures.draw import draw
from bench.sync_async.scenarios import SCENARIOS, Scenario

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "sync_async.json"
PAGE = ROOT / "docs" / "design" / "sync-to-async.md"

COLUMNS = (
    "errors", "HTTP p50", "p99", "p99.9", "accepted → visible p50", "p99", "message lag", "time lag",
    "connections", "lock waits", "lost", "doubled", "refused, yet written",
)  # fmt: skip
HEAD = f"| | {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * len(COLUMNS)}"


def line(scenario: Scenario, way: str, found: Mapping[str, Any]) -> str:
    """Format a run as a line."""
    http, visible = found["http"], found["accepted_to_visible"] or {}
    return (
        f"{scenario.name:<11} {way:<21} errors {share(found['errors']):>5}"
        f"  HTTP {seconds(http['p50']):>8} {seconds(http['p99']):>8} {seconds(http['p999']):>8}"
        f"  visible {seconds(visible.get('p50')):>8} {seconds(visible.get('p99')):>8}"
        f"  lag {found['message_lag']:>6} {seconds(found['time_lag']):>8}"
        f"  connections {_number(found['connections']):>3} lock waits {_number(found['lock_waits']):>3}"
        f"  lost {found['lost']} doubled {found['doubled']}"
    )


def line_of_method(found: Mapping[str, Mapping[str, float]]) -> str:
    """Format what both methods saw of the stalls."""
    return "\n".join(
        f"method      {name:<21} {of['requests']:>7,.0f} requests  p90 {seconds(of['p90']):>8}"
        f"  p99 {seconds(of['p99']):>8}  p99.9 {seconds(of['p999']):>8}"
        for name, of in found.items()
    )


def table(found: Mapping[str, Any]) -> str:
    """Format a scenario as a table: a row per way."""
    rows = [HEAD]
    for way, run in found["ways"].items():
        http = run["http"]
        visible = run["accepted_to_visible"] or {}
        queued = run["accepted_to_visible"] is not None
        cells = [
            way, share(run["errors"]), *(seconds(http[name]) for name in ("p50", "p99", "p999")),
            *(seconds(visible.get(name)) for name in ("p50", "p99")),
            f"{run['message_lag']:,}" if queued else "–",
            seconds(run["time_lag"]) if queued else "–",
            _number(run["connections"]), _number(run["lock_waits"]),
            run["lost"], run["doubled"], run["refused_yet_written"],
        ]  # fmt: skip
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def table_of_method(found: Mapping[str, Mapping[str, float]]) -> str:
    """Format the check of the method as a table."""
    rows = [
        "| requests are sent | how many | p90 | p99 | p99.9 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {name} | {of['requests']:,.0f} | {seconds(of['p90'])} | {seconds(of['p99'])} "
        f"| {seconds(of['p999'])} |"
        for name, of in found.items()
    ]
    return "\n".join(rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def blocks(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the tables of a file of results, by the names of the page's places for them."""
    found = {name: table(of) for name, of in document["scenarios"].items()}
    if document.get("method"):
        found["method"] = table_of_method(document["method"])
    return found


def write(file: Path) -> None:
    """Draw the pictures beside a file of results; if it is the kept one, fill the page too."""
    document = json.loads(file.read_text())
    for name in document["scenarios"]:
        draw("sync_async", file, file.with_name(f"{file.stem}-{name}.svg"))
    if file == RESULTS:
        PAGE.write_text(filled(PAGE.read_text(), blocks(document)))
        print(f"wrote {PAGE}")
    for name in SCENARIOS:
        if name in document["scenarios"]:
            print(f"\n{name}\n{table(document['scenarios'][name])}")
