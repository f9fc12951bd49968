"""What grows as a load grows: CPU a record, throughput and memory of one ``pipeline run``.

Four axes, one at a time, the others held: partitions, keys, record size, shards. The goal is that the
CPU a record does not depend on partitions, keys and shards, and on the size only by the bytes: within
10 % of one level, or of one straight line.

Shards are databases of one Postgres server here, so that what they show is the consumer's part: a
real shard brings cores of its own. What a record holds beyond its columns is padding, read from Kafka
and parsed, and not written to Postgres.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from bench.harness import growth_report, load
from bench.harness.drain import Drained, DrainFailed, Topic, drain, filled, servers
from bench.harness.flatness import Verdict, flatness, linearity
from bench.harness.machine import machine, versions
from bench.subjects import programs
from pipeline.local import Servers

RESULTS = Path(__file__).parent / "results"

SKIPPED = 0.25
"""The share of the records applied before the clock starts: while it takes 256 partitions over, an
instance already applies what it has of the first ones."""


@attrs.frozen
class Load:
    """A point in the space of loads. Size in bytes, of a record's value."""

    partitions: int = 16
    keys: int = 100_000
    size: int = 200
    shards: int = 1


@attrs.frozen
class Axis:
    """An attribute of `Load`, and the values that it takes while the others are held."""

    name: str
    values: tuple[int, ...]

    def loads(self) -> dict[int, Load]:
        """The axis's loads by value."""
        return {value: attrs.evolve(Load(), **{self.name: value}) for value in self.values}


AXES = (
    Axis("partitions", (1, 4, 16, 64, 256)),
    Axis("keys", (1, 100, 10_000, 1_000_000)),
    Axis("size", (100, 200, 1000, 4000)),
    Axis("shards", (1, 2, 4, 8)),
)


class Topics:
    """The topics of the loads, each filled when the first load needs it."""

    def __init__(self, started: Servers, records: int, seed: int) -> None:
        self._servers = started
        self._records = records
        self._seed = seed
        self._made: dict[tuple[int, int, int], Topic] = {}

    def of(self, wanted: Load) -> Topic:
        key = (wanted.partitions, wanted.keys, wanted.size)
        if key not in self._made:
            self._made[key] = filled(
                self._servers, self._records, wanted.keys, self._seed,
                partitions=wanted.partitions, size=wanted.size,
            )  # fmt: skip
        return self._made[key]


def main() -> int:
    """Measure, write, print; 1 where a run failed or a row was wrong, whatever the goal says."""
    options = _options()
    axes = [axis for axis in AXES if options.axis in (None, axis.name)]
    runs: dict[str, list[tuple[int, Drained]]] = {axis.name: [] for axis in axes}
    with servers() as started:
        topics = Topics(started, options.records, options.seed)
        print(growth_report.HEADER)
        try:
            for _ in range(options.rounds):
                for axis in axes:
                    for value, wanted in axis.loads().items():
                        run = _measured(started, topics.of(wanted), wanted)
                        runs[axis.name].append((value, run))
                        print(growth_report.line(axis.name, value, run), flush=True)
        except DrainFailed as problem:
            print(problem, file=sys.stderr)
            return 1
    for axis in axes:
        growth_report.write(options.output, axis.name, document(axis, runs[axis.name], options))
    growth_report.draw(options.output)
    print("\n" + growth_report.table(options.output))
    return int(any(run.wrong for measured in runs.values() for _, run in measured))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--axis", choices=[axis.name for axis in AXES], help="one; none: all")
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", default=RESULTS / "growth.json",
        help="axes that are not run keep what is there; the picture goes beside it (default: "
        "bench/results/growth.json)",
    )  # fmt: skip
    return parser.parse_args()


def _measured(started: Servers, topic: Topic, wanted: Load) -> Drained:
    return drain(
        started, topic, "pipeline", programs.pipeline,
        shards=wanted.shards, skip=SKIPPED, patience=240,
    )  # fmt: skip


def document(
    axis: Axis, runs: list[tuple[int, Drained]], options: argparse.Namespace
) -> dict[str, Any]:
    """One axis's figures, what they were measured on, and what they say about the goal."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "load": {"records": options.records, "seed": options.seed, "rounds": options.rounds},
        "held": attrs.asdict(Load(), filter=attrs.filters.exclude(axis.name)),
        "runs": [{"value": value, **attrs.asdict(run)} for value, run in runs],
        "verdict": attrs.asdict(verdict(axis, runs, options)),
    }


def verdict(axis: Axis, runs: list[tuple[int, Drained]], options: argparse.Namespace) -> Verdict:
    """The medians of the CPU a record against the goal; sizes as they really were."""
    medians = {
        value: statistics.median(run.cpu for at, run in runs if at == value)
        for value in axis.values
    }
    if axis.name != "size":
        return flatness({float(value): cpu for value, cpu in medians.items()})
    return linearity({load.mean_size(options.seed, value): cpu for value, cpu in medians.items()})


if __name__ == "__main__":
    sys.exit(main())
