"""How fast one ``pipeline run`` drains a backlog, as a share of the bare loop in the same run.

The programs take turns, round after round, on the same servers and the same topic, so that what the
machine does meanwhile hits all of them. The gate is on the ratio of the medians to the fast bare loop:
an absolute time would fail on another machine. Where it would fail, as many rounds are measured again
and count with the first: one noisy minute of a shared machine is no verdict.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from bench.harness.drain import Drained, DrainFailed, Topic, drain, filled, servers
from bench.subjects.programs import PROGRAMS
from pipeline.local import Servers

GATED = "bare loop, fast"
HEADER = f"{'':<20} {'records/s':>10} {'CPU µs':>8} {'memory MB':>10} {'Postgres µs':>12} {'Kafka µs':>9}"


def main() -> int:
    """Run, print, and answer 1 under the gate or where a row is wrong."""
    options = _options()
    runs: dict[str, list[Drained]] = {name: [] for name in PROGRAMS}
    with servers() as started:
        topic = filled(started, options.records, options.keys, options.seed)
        print(f"{options.records} records, {options.keys} keys, {options.rounds} rounds")
        print(HEADER)
        try:
            measure(started, topic, runs, options.rounds)
            if ratios_of(runs)[GATED] < options.gate:
                print("under the gate: as many rounds again")
                measure(started, topic, runs, options.rounds)
        except DrainFailed as problem:
            print(problem, file=sys.stderr)
            return 1
    ratios = ratios_of(runs)
    if options.json:
        write(options.json, options, runs, ratios)
    return verdict(runs, ratios, options.gate)


def measure(started: Servers, topic: Topic, runs: Mapping[str, list[Drained]], rounds: int) -> None:
    """Add rounds of all programs to ``runs``.

    Raises:
        DrainFailed: one did not do its job.
    """
    for _ in range(rounds):
        for name, commands in PROGRAMS.items():
            runs[name].append(drain(started, topic, name, commands, patience=120))
            print(line(runs[name][-1]), flush=True)


def ratios_of(runs: Mapping[str, Sequence[Drained]]) -> dict[str, float]:
    """The pipeline's rate as a share of each program's."""
    return {name: rate(runs["pipeline"]) / rate(runs[name]) for name in runs}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--gate", type=float, default=0.0, metavar="RATIO",
        help=f"exit 1 where the pipeline's rate is under this share of that of the {GATED}",
    )  # fmt: skip
    return parser.parse_args()


def line(run: Drained) -> str:
    """A run as a line of the table."""
    wrong = f"  {run.wrong} ROWS WRONG" if run.wrong else ""
    return (
        f"{run.program:<20} {run.rate:>10,.0f} {run.cpu:>8.2f} {run.memory:>10.0f} "
        f"{run.postgres_cpu:>12.2f} {run.kafka_cpu:>9.2f}{wrong}"
    )


def rate(runs: Sequence[Drained]) -> float:
    """The median rate."""
    return statistics.median(run.rate for run in runs)


def verdict(runs: Mapping[str, Sequence[Drained]], ratios: Mapping[str, float], gate: float) -> int:
    """Print medians and ratios; the exit code."""
    print("medians")
    for name, measured in runs.items():
        cpu = statistics.median(run.cpu for run in measured)
        print(
            f"{name:<20} {rate(measured):>10,.0f} {cpu:>8.2f} "
            f"  pipeline is {ratios[name]:.2f} of it"
        )
    if any(run.wrong for measured in runs.values() for run in measured):
        print("FAILED: rows differ from what was produced", file=sys.stderr)
        return 1
    if ratios[GATED] < gate:
        print(f"FAILED: {ratios[GATED]:.2f} of the {GATED}, gate {gate:.2f}", file=sys.stderr)
        return 1
    return 0


def write(
    file: Path,
    options: argparse.Namespace,
    runs: Mapping[str, Sequence[Drained]],
    ratios: Mapping[str, float],
) -> None:
    """All figures as JSON."""
    document = {
        "load": {"records": options.records, "keys": options.keys, "seed": options.seed},
        "runs": [attrs.asdict(run) for measured in runs.values() for run in measured],
        "ratios": dict(ratios),
    }
    file.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
