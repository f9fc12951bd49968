"""What grows as a load grows? CPU per record, throughput and memory of one ``pipeline run``.

Four axes, one at a time while the others are held: partitions, keys, record size, shards. The goal is
that the CPU per record does not depend on partitions, keys and shards, and on the size only by the
bytes: within 10 % of one level, or of one straight line. ``--json`` also draws a picture (.svg).

The shards are databases of one Postgres server here, so they show the consumer's part only: a real
shard brings cores of its own. What a record holds beyond its columns is padding: it is read from Kafka
and parsed, but not written to Postgres.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.harness import growth_report, load
from bench.harness.drain import Drained, servers
from bench.harness.experiment import Experiment, Variant
from bench.harness.flatness import Fit, flatness, linearity
from bench.harness.goals import Goal, at_most
from bench.harness.question import Answer, add_load, answer, bound_of, parser
from bench.harness.topics import Load, Topics
from bench.pictures.draw import draw
from bench.subjects.programs import pipeline

DEVIATION = 0.10

SKIPPED = 0.25
"""The share of the records applied before the clock starts: while an instance takes over 256
partitions, it already applies records of the first ones."""


@attrs.frozen
class Point:
    """A point in the space of loads. ``size`` is that of a record's value, in bytes."""

    partitions: int = 16
    keys: int = 100_000
    size: int = 200
    shards: int = 1


AXES: Mapping[str, tuple[int, ...]] = {
    "partitions": (1, 4, 16, 64, 256),
    "keys": (1, 100, 10_000, 1_000_000),
    "size": (100, 200, 1000, 4000),
    "shards": (1, 2, 4, 8),
}
"""The attributes of `Point`, and the values that each takes while the others are held."""


def variant(axis: str, value: int, records: int, seed: int) -> Variant:
    """Return the pipeline at a point of an axis."""
    point = attrs.evolve(Point(), **{axis: value})
    return Variant(
        name_of(axis, value),
        pipeline,
        Load(records, point.keys, seed, point.partitions, point.size),
        shards=point.shards,
        skip=SKIPPED,
        patience=240,
    )


def name_of(axis: str, value: int) -> str:
    """Return the name of a point of an axis."""
    return f"{value:,} {growth_report.NAMES[axis]}"


def measure(options: argparse.Namespace) -> Answer:
    """Measure the points of all axes in turn.

    Raises:
        DrainFailed: a run failed.
    """
    axes = {name: AXES[name] for name in options.axis or AXES}
    experiment = Experiment(
        [
            variant(axis, value, options.records, options.seed)
            for axis, values in axes.items()
            for value in values
        ]
    )
    with servers() as started:
        experiment.measure(Topics(started), options.rounds)
    figures: dict[str, Any] = {}
    goals: list[Goal] = []
    for axis, values in axes.items():
        runs = {value: experiment.runs[name_of(axis, value)] for value in values}
        fit = fitted(axis, runs, options.seed)
        figures[axis] = axis_figures(axis, runs, fit)
        name = f"CPU per record over {axis}, deviation"
        goals.append(at_most(name, fit.deviation, bound_of(options)))
    print("\n" + growth_report.table(figures))
    return Answer({"axes": figures}, goals, experiment.wrong)


def fitted(axis: str, runs: Mapping[int, Sequence[Drained]], seed: int) -> Fit:
    """Fit a level to the medians of the CPU per record; over sizes a line, by the real sizes."""
    medians = {value: statistics.median(run.cpu for run in of) for value, of in runs.items()}
    if axis != "size":
        return flatness({float(value): cpu for value, cpu in medians.items()})
    return linearity({load.mean_size(seed, size): cpu for size, cpu in medians.items()})


def axis_figures(axis: str, runs: Mapping[int, Sequence[Drained]], fit: Fit) -> dict[str, Any]:
    """Return the figures of an axis for the file of results."""
    return {
        "held": attrs.asdict(Point(), filter=attrs.filters.exclude(axis)),
        "runs": [{"value": value, **attrs.asdict(run)} for value, of in runs.items() for run in of],
        "verdict": attrs.asdict(fit),
    }


def picture(results: Path) -> None:
    """Draw a file of results beside it."""
    draw("growth", results, results.with_suffix(".svg"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("growth", __doc__, "--axis keys --axis shards --records 200000", bound=DEVIATION)
    made.add_argument(
        "--axis", choices=list(AXES), action="append", help="may be repeated; none: all"
    )
    add_load(made, 500_000, 1, keys=None)
    return answer(made.parse_args(arguments), measure, picture)


if __name__ == "__main__":
    sys.exit(main())
