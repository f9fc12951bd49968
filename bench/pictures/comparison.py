"""Draw a comparison: records/s, CPU and memory; each run is a dot, each median a bar.

Runs in the peers' environment: ``python -m bench.pictures.comparison FIGURES.json PICTURE.png``.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

PANELS = (
    ("rate", "records/s"),
    ("cpu", "CPU of the program, µs per record"),
    ("memory", "peak memory, MB"),
)


def main(source: str, target: str) -> None:
    """Read a file of results and write its picture."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]

    matplotlib.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    runs: dict[str, list[Any]] = {}
    for run in json.loads(Path(source).read_text())["runs"]:
        runs.setdefault(run["program"], []).append(run)
    names = sorted(runs, key=lambda name: statistics.median(r["rate"] for r in runs[name]))
    figure, axes = pyplot.subplots(
        1, len(PANELS), sharey=True, figsize=(15, 1.5 + 0.4 * len(names)), layout="constrained"
    )
    colours = ["#1f6f8b" if name.startswith("pipeline") else "#b8c4cc" for name in names]
    for axis, (key, title) in zip(axes, PANELS, strict=True):
        medians = [statistics.median(run[key] for run in runs[name]) for name in names]
        axis.barh(names, medians, color=colours)
        for place, name in enumerate(names):
            values = [run[key] for run in runs[name]]
            axis.plot(values, [place] * len(values), "o", color="#333333", markersize=3)
        axis.bar_label(
            axis.containers[0], fmt="{:,.0f}" if key != "cpu" else "{:,.1f}", padding=6, fontsize=8
        )
        axis.xaxis.set_major_locator(pyplot.MaxNLocator(5))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.margins(x=0.18)
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    main(*sys.argv[1:3])
