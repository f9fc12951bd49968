"""Draw what grows with a load: a column per axis, a row per figure; the goal is a band.

Runs in the peers' environment: ``python -m bench.pictures.growth FIGURES.json PICTURE.svg``.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

COLUMNS = {
    "partitions": "partitions",
    "keys": "keys",
    "size": "record size, bytes",
    "shards": "shards",
}
ROWS = (
    ("cpu", "CPU of the instance,\nµs per record"),
    ("rate", "throughput,\nthousand records/s"),
    ("memory", "peak memory,\nMB"),
)
SCALE = {"rate": 1e-3}
GOAL = 0.10
"""As in `bench.growth`, which this environment can't import: it has no attrs."""

BLUE, GREY, BAND = "#1f6f8b", "#4a4a4a", "#cfe3ea"


def main(source: str, target: str) -> None:
    """Read a file of results and write its picture."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same figures give the same file
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    axes = json.loads(Path(source).read_text())["axes"]
    figure, panels = pyplot.subplots(
        len(ROWS), len(axes), figsize=(3.3 * len(axes), 7.2), squeeze=False, sharex="col",
        sharey="row", layout="constrained",
    )  # fmt: skip
    for column, (name, figures) in enumerate(axes.items()):
        for row, (key, title) in enumerate(ROWS):
            panel = panels[row][column]
            _draw(panel, figures["runs"], key)
            if key == "cpu":
                _goal(panel, figures["verdict"], name)
            panel.set_ylabel(title if column == 0 else "")
            panel.set_xlabel(COLUMNS[name] if row == len(ROWS) - 1 else "")
            panel.set_ylim(bottom=0)
            panel.grid(axis="y", color="#e5e5e5", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        _values(panels[-1][column], figures["runs"])
    figure.savefig(target, metadata={"Date": None})


def _draw(panel: Any, runs: list[dict[str, Any]], key: str) -> None:
    """Draw every run as a dot and the medians as a line."""
    found: dict[float, list[float]] = {}
    for run in runs:
        found.setdefault(run["value"], []).append(run[key] * SCALE.get(key, 1.0))
    panel.plot([run["value"] for run in runs], [y for ys in found.values() for y in ys], ".",
               color=GREY, markersize=4)  # fmt: skip
    panel.plot(list(found), [statistics.median(ys) for ys in found.values()], color=BLUE)


def _goal(panel: Any, verdict: dict[str, Any], name: str) -> None:
    """Draw the band in which all figures should lie."""
    expected = {float(value): figure for value, figure in verdict["expected"].items()}
    low = [figure * (1 - GOAL) for figure in expected.values()]
    high = [figure * (1 + GOAL) for figure in expected.values()]
    panel.fill_between(list(expected), low, high, color=BAND, linewidth=0, zorder=0)
    says = f"goal: ±{GOAL:.0%} of "
    if verdict["fixed"] is None:
        says += f"one level\nmeasured: ±{verdict['deviation']:.0%}"
    else:
        says += f"a line\n{verdict['fixed']:.1f} µs + {verdict['per_kilobyte']:.2f} µs/kB"
        says += f", ±{verdict['deviation']:.0%}"
    panel.set_title(f"{COLUMNS[name].partition(',')[0]}\n{says}", fontsize=9)


def _values(panel: Any, runs: list[dict[str, Any]]) -> None:
    """Mark the measured values on a logarithmic scale."""
    from matplotlib.ticker import (  # type: ignore[import-not-found, unused-ignore]
        FixedLocator,
        NullLocator,
    )

    values = sorted({run["value"] for run in runs})
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(values))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels([f"{value:,}" for value in values])


if __name__ == "__main__":
    main(*sys.argv[1:3])
