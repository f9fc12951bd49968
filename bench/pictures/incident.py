"""Draw `bench.incident` over time: a column per kind, a panel per figure, a line per way.

Runs in the peers' environment: ``python -m bench.pictures.incident FIGURES.json PICTURE.svg``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PANELS = (
    ("time_lag", "time", "the others'\ntime lag, s"),
    ("cpu", "looked", "CPU of the\ninstance, cores"),
    ("postgres_cpu", "looked", "CPU of\nPostgres, cores"),
    ("busy", "looked", "busy\nconnections"),
    ("in_lanes", "looked", "records\nin lanes"),
)
SMOOTHED = 7
"""Looks, two per second, of which a point is the mean: what is seen at a moment is 0 or 1 connection."""

AFTER_SECONDS = 45.0
STYLES = {"calm": ("#c79a2b", ":"), "no lanes": ("#b5482e", "-"), "lanes": ("#1f6f8b", "-")}


def main(source: str, target: str) -> None:
    """Read a file of results and write its picture."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "incident"  # the same figures give the same file
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    kinds = json.loads(Path(source).read_text())["kinds"]
    figure, panels = pyplot.subplots(
        len(PANELS), len(kinds), figsize=(4.6 * len(kinds), 1.35 * len(PANELS)), sharex="col",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for column, (kind, ways) in enumerate(kinds.items()):
        for row, (name, times, title) in enumerate(PANELS):
            panel = panels[row][column]
            for way, run in ways.items():
                _draw(panel, run, times, name, way)
            panel.axvspan(*ways["lanes"]["hot"], color="#eeeeee", linewidth=0, zorder=0)
            panel.set_ylim(bottom=0)
            panel.set_xlim(0, ways["lanes"]["hot"][1] + AFTER_SECONDS)
            panel.set_ylabel(title if column == 0 else "", fontsize=8)
            panel.tick_params(labelsize=8)
            panel.grid(axis="y", color="#e5e5e5", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0][column].set_title(kind, fontsize=9, loc="right")
        panels[-1][column].set_xlabel(
            "seconds; the hot tenant produces in the grey ones", fontsize=8
        )
    panels[0][0].legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(target, metadata={"Date": None})


def _draw(panel: Any, run: Any, times: str, name: str, way: str) -> None:
    """Draw a line; where nobody answered, it has a gap."""
    colour, style = STYLES[way]
    values = [float("nan") if value is None else value for value in run["series"][name]]
    if times == "looked":
        values = [_mean(values[max(0, n - SMOOTHED + 1) : n + 1]) for n in range(len(values))]
    panel.plot(run["series"][times], values, style, color=colour, linewidth=1.3, label=way)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main(*sys.argv[1:3])
