"""Draw a scenario of `bench.sync_async` over time: a panel per figure, a line per way.

Runs in the peers' environment: ``python -m bench.pictures.sync_async FIGURES.json PICTURE.svg``; the
picture's name ends with the scenario's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BEFORE = 10.0
"""As in `bench.sync_async.scenarios`, which this environment can't import."""

PANELS = (
    ("p99", "second", "HTTP p99, s"),
    ("errors", "second", "errors, share"),
    ("in_flight", "time", "requests\nunder way"),
    ("message_lag", "time", "message lag,\nrecords"),
    ("time_lag", "time", "time lag, s"),
    ("active", "looked", "sessions at work\nin Postgres"),
    ("lock_waits", "looked", "sessions that\nwait for a lock"),
)
COLOURS = ("#b5482e", "#1f6f8b", "#c79a2b")
STYLES = ("-", "-", "--")


def main(source: str, target: str) -> None:
    """Read a file of results and write the picture of one scenario."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "sync_async"  # the same figures give the same file
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    scenarios = json.loads(Path(source).read_text())["scenarios"]
    name = next(name for name in scenarios if target.endswith(f"-{name}.svg"))
    found = scenarios[name]
    figure, panels = pyplot.subplots(
        len(PANELS), 1, figsize=(8, 1.25 * len(PANELS)), sharex=True, layout="constrained"
    )
    for panel, (figure_name, times, title) in zip(panels, PANELS, strict=True):
        panel.axvspan(BEFORE, BEFORE + found["seconds"], color="#eeeeee", linewidth=0, zorder=0)
        for (way, run), colour, style in zip(found["ways"].items(), COLOURS, STYLES, strict=False):
            _draw(panel, run["series"], times, figure_name, way, colour, style)
        if figure_name == "p99":
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
        panel.set_ylabel(title, fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(axis="y", color="#e5e5e5", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    panels[-1].set_xlabel("seconds; something happens in the grey ones", fontsize=8)
    figure.savefig(target, metadata={"Date": None})


def _draw(
    panel: Any, series: Any, times: str, name: str, way: str, colour: str, style: str
) -> None:
    """Draw a line; where nobody answered, it has a gap."""
    values = [float("nan") if value is None else value for value in series[name]]
    panel.plot(series[times], values, style, color=colour, linewidth=1.3, label=way)


if __name__ == "__main__":
    main(*sys.argv[1:3])
