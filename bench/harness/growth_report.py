"""The figures of `bench.growth` as tables in Markdown."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

HEAD = """\
| {axis} | records/s | CPU, µs per record | memory, MB | Postgres, µs | Kafka, µs | records per transaction |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""

NAMES = {"partitions": "partitions", "keys": "keys", "size": "bytes per record", "shards": "shards"}


def table(axes: Mapping[str, Any]) -> str:
    """Format the medians of every axis, each with its fit."""
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


def sentence(fit: Mapping[str, Any]) -> str:
    """Say how far the figures of an axis are from their level or line."""
    if fit["fixed"] is None:
        what = f"{next(iter(fit['expected'].values())):.1f} µs"
    else:
        what = f"{fit['fixed']:.1f} µs per record + {fit['per_kilobyte']:.2f} µs per kB"
    return f"CPU per record: within {fit['deviation']:.0%} of {what}."
