"""How many records a second a user's own function gets through, against the goals set for it.

upsert    one `execute` a record, in order by key, exactly once; one process, and two. Beside it the
          Parallel Consumer and pyrallel-consumer with one upsert a record
two       the same with two statements a record; no goal
batch     the rows of a batch as one `unnest` upsert (scope = "batch"), as a share of the declared
          sink, which writes the same statement
slow      10 ms and 100 ms of waiting a record, 1,000 keys, as a share of connections ÷ waiting

Programs take turns, round after round, on the same servers; a goal is on the ratio of medians. All
have as many connections as `CONNECTIONS` says, two processes half of them each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import attrs

from bench.harness.drain import Commands, Drained, DrainFailed, Job, Topic, drain, filled, servers
from bench.harness.load import SINK
from bench.harness.machine import machine, versions
from bench.subjects.peers.catalogue import PEERS
from bench.subjects.programs import CONFIG
from bench.throughput import HEADER, line
from pipeline.local import Servers

CONNECTIONS = 16
RESULTS = Path(__file__).parent / "results" / "handlers.json"

PARALLEL = "Parallel Consumer, batch 1, "
PYRALLEL = "pyrallel-consumer, one upsert a record"


@attrs.frozen
class Run:
    """A program to measure, on a topic of so many records and keys."""

    name: str
    commands: Commands
    records: int
    keys: int


@attrs.frozen
class Goal:
    """A ratio that must be reached. ``against``: the rate to compare with, None where it is not there."""

    name: str
    program: str
    least: float
    against: Callable[[dict[str, float]], float | None]


def run_pipeline(job: Job, *, sink: str, processes: int = 1) -> list[list[str]]:
    """``pipeline run`` in the working directory, where `bench.subjects.handling` is found."""
    file = job.directory / "pipeline.toml"
    text = CONFIG.format(job=job, sink=sink)
    connections = f"connections = {CONNECTIONS // processes}\n\n[http]"
    file.write_text(text.replace("[http]", connections))
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(file)]
    return [[*command, "--log-level", "warning"]] * processes


def handled(function: str, *, scope: str = "key", processes: int = 1) -> Commands:
    """``pipeline run`` with a function of `bench.subjects.handling`."""
    sink = f'[sink]\nhandler = "bench.subjects.handling:{function}"\nscope = "{scope}"\n'
    return partial(run_pipeline, sink=sink, processes=processes)


def of(name: str, *, times: float = 1.0) -> Callable[[dict[str, float]], float | None]:
    """Against another program's rate, or the best of those whose names start so."""

    def against(rates: dict[str, float]) -> float | None:
        found = [rate for program, rate in rates.items() if program.startswith(name)]
        return max(found) * times if found else None

    return against


def bound(seconds: float) -> Callable[[dict[str, float]], float | None]:
    """Against what the connections allow where a record holds one for so long."""
    return lambda _: CONNECTIONS / seconds


GOALS = (
    Goal("one process ÷ Parallel Consumer", "handler, upsert", 0.7, of(PARALLEL)),
    Goal("two processes ÷ Parallel Consumer", "handler, upsert, 2 processes", 1.0, of(PARALLEL)),
    Goal("one process ÷ pyrallel-consumer", "handler, upsert", 2.5, of(PYRALLEL)),
    Goal("batch ÷ declared sink", "handler, batch", 0.8, of("declared sink")),
    Goal("10 ms a record ÷ bound", "handler, 10 ms", 0.9, bound(0.01)),
    Goal("100 ms a record ÷ bound", "handler, 100 ms", 0.9, bound(0.1)),
)


def programs(options: argparse.Namespace) -> list[Run]:
    """Everything that was asked for, in turn."""
    count, keys = options.records, 100_000
    chosen = {
        "upsert": [
            Run("handler, upsert", handled("upsert"), count, keys),
            Run("handler, upsert, 2 processes", handled("upsert", processes=2), count, keys),
        ],
        "two": [Run("handler, two statements", handled("two"), count, keys)],
        "batch": [
            Run("declared sink", partial(run_pipeline, sink=SINK), 3 * count, keys),
            Run("handler, batch", handled("batch", scope="batch"), 3 * count, keys),
        ],
        "slow": [
            Run("handler, 10 ms", handled("slow_10_ms"), 16_000, 1_000),
            Run("handler, 100 ms", handled("slow_100_ms"), 3_200, 1_000),
        ],
    }
    runs = [run for name in options.only or chosen for run in chosen[name]]
    if options.peers and (not options.only or "upsert" in options.only):
        runs += _peers(count, keys)
    return runs


def _peers(count: int, keys: int) -> list[Run]:
    runs = []
    for peer in PEERS:
        if peer.name.startswith(PARALLEL) or peer.name == PYRALLEL:
            peer.build()
            share = 0.2 if peer.name == PYRALLEL else 1.0
            runs.append(Run(peer.name, peer.commands, int(count * share), keys))
    return runs


class Topics:
    """The topics, each filled when the first program needs it."""

    def __init__(self, started: Servers, seed: int) -> None:
        self._servers = started
        self._seed = seed
        self._made: dict[tuple[int, int], Topic] = {}

    def of(self, run: Run) -> Topic:
        size = (run.records, run.keys)
        if size not in self._made:
            self._made[size] = filled(self._servers, *size, self._seed)
        return self._made[size]


def main() -> int:
    """Run, print, write; 1 where a row is wrong, a program failed, or a gated goal was missed."""
    options = _options()
    chosen = programs(options)
    measured: dict[str, list[Drained]] = {}
    with servers() as started:
        topics = Topics(started, options.seed)
        print(HEADER)
        try:
            for _ in range(options.rounds):
                for run in chosen:
                    drained = drain(started, topics.of(run), run.name, run.commands)
                    measured.setdefault(run.name, []).append(drained)
                    print(line(drained), flush=True)
        except DrainFailed as problem:
            print(problem, file=sys.stderr)
            return 1
    ratios = reached(measured)
    if options.json:
        write(options, measured, ratios)
    return verdict(measured, ratios, gated=options.gate)


def reached(measured: dict[str, list[Drained]]) -> dict[str, float]:
    """The ratio of each goal whose programs were measured."""
    rates = {name: statistics.median(run.rate for run in runs) for name, runs in measured.items()}
    ratios = {}
    for goal in GOALS:
        against = goal.against(rates)
        if goal.program in rates and against is not None:
            ratios[goal.name] = rates[goal.program] / against
    return ratios


def verdict(measured: dict[str, list[Drained]], ratios: dict[str, float], *, gated: bool) -> int:
    """Print the medians and the goals; the exit code."""
    print("medians")
    for name, runs in measured.items():
        rate, cpu = (statistics.median(getattr(r, f) for r in runs) for f in ("rate", "cpu"))
        print(f"{name:<40} {rate:>10,.0f} records/s {cpu:>8.2f} µs")
    missed = False
    for goal in GOALS:
        if goal.name in ratios:
            short = ratios[goal.name] < goal.least
            missed = missed or short
            print(
                f"{goal.name:<40} {ratios[goal.name]:>6.2f}  goal {goal.least:.1f}"
                + "  MISSED" * short
            )
    if any(run.wrong for runs in measured.values() for run in runs):
        print("FAILED: rows differ from what was produced", file=sys.stderr)
        return 1
    return int(missed and gated)


def write(
    options: argparse.Namespace,
    measured: dict[str, list[Drained]],
    ratios: dict[str, float],
) -> None:
    """All figures as JSON."""
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "load": {"records": options.records, "seed": options.seed, "rounds": options.rounds},
        "connections": CONNECTIONS,
        "runs": [attrs.asdict(run) for runs in measured.values() for run in runs],
        "goals": [
            {"name": goal.name, "goal": goal.least, "reached": ratios[goal.name]}
            for goal in GOALS
            if goal.name in ratios
        ],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=2) + "\n")


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.handlers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("only", nargs="*", help="upsert, two, batch, slow; none: all")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--no-peers", dest="peers", action="store_false", help="none but our own programs"
    )
    parser.add_argument("--gate", action="store_true", help="exit 1 where a goal is missed")
    parser.add_argument(
        "--json", type=Path, nargs="?", const=RESULTS, metavar="FILE",
        help="write all figures there (default: bench/results/handlers.json)",
    )  # fmt: skip
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
