"""The figures of `bench.growth` as lines, as JSON, as a table in Markdown, and as a picture."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness.drain import Drained
from bench.harness.flatness import GOAL
from bench.subjects.peers import environment

HEADER = (
    f"{'axis':<11} {'value':>9} {'records/s':>10} {'CPU µs':>7} {'memory MB':>10} "
    f"{'Postgres µs':>12} {'Kafka µs':>9} {'records a transaction':>22}"
)
HEAD = """\
| {axis} | records/s | CPU, µs a record | memory, MB | Postgres, µs | Kafka, µs | records a transaction |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""

NAMES = {"partitions": "partitions", "keys": "keys", "size": "bytes a record", "shards": "shards"}


def line(axis: str, value: int, run: Drained) -> str:
    """A run as a line of the progress."""
    wrong = f"  {run.wrong} ROWS WRONG" if run.wrong else ""
    return (
        f"{axis:<11} {value:>9,} {run.rate:>10,.0f} {run.cpu:>7.2f} {run.memory:>10.0f} "
        f"{run.postgres_cpu:>12.2f} {run.kafka_cpu:>9.2f} "
        f"{run.records / max(1, run.transactions):>22,.0f}{wrong}"
    )


def write(output: Path, axis: str, figures: Mapping[str, Any]) -> None:
    """Put an axis's figures into the file; other axes stay as they are."""
    output.parent.mkdir(parents=True, exist_ok=True)
    axes = json.loads(output.read_text())["axes"] if output.exists() else {}
    axes[axis] = figures
    ordered = {name: axes[name] for name in NAMES if name in axes}
    output.write_text(json.dumps({"axes": ordered}, indent=2) + "\n")


def draw(output: Path) -> None:
    """The picture, by the peers' own environment: matplotlib is nothing the pipeline needs."""
    try:
        python = environment.python()
    except environment.BuildFailed as problem:
        print(f"no picture: {problem}", file=sys.stderr)
        return
    target = output.with_suffix(".svg")
    subprocess.run([str(python), "-m", "bench.harness.plots.growth", output, target], check=True)


def table(output: Path) -> str:
    """Medians of every axis in the file, each with what it says about the goal."""
    axes = json.loads(output.read_text())["axes"]
    return "\n\n".join(_axis(name, figures) for name, figures in axes.items()) + "\n"


def _axis(name: str, figures: Mapping[str, Any]) -> str:
    runs: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for run in figures["runs"]:
        runs[run["value"]].append(run)
    rows = [_row(value, measured) for value, measured in runs.items()]
    return "\n".join([HEAD.format(axis=NAMES[name]), *rows, "", sentence(figures["verdict"])])


def _row(value: int, runs: list[Mapping[str, Any]]) -> str:
    def median(figure: str) -> float:
        return float(statistics.median(run[figure] for run in runs))

    batch = statistics.median(run["records"] / max(1, run["transactions"]) for run in runs)
    wrong = " (ROWS WRONG)" if any(run["wrong"] for run in runs) else ""
    return (
        f"| {value:,}{wrong} | {median('rate'):,.0f} | {median('cpu'):.1f} | {median('memory'):.0f} "
        f"| {median('postgres_cpu'):.1f} | {median('kafka_cpu'):.1f} | {batch:,.0f} |"
    )


def sentence(verdict: Mapping[str, Any]) -> str:
    """What an axis says about the goal."""
    if verdict["fixed"] is None:
        what = f"{next(iter(verdict['expected'].values())):.1f} µs"
    else:
        what = f"{verdict['fixed']:.1f} µs a record + {verdict['per_kilobyte']:.2f} µs a kB"
    reached = "reached" if verdict["deviation"] <= GOAL else "missed"
    return (
        f"CPU a record: within {verdict['deviation']:.0%} of {what}; "
        f"the goal of {GOAL:.0%} is {reached}."
    )
