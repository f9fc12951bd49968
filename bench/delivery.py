"""What the guarantee costs: the same pipeline with and without, in turn in one run.

exactly-once     as delivered
at-least-once    no ledger, no fence
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

from bench.harness.drain import Drained, Job, drain, filled, servers
from bench.subjects.programs import pipeline
from bench.throughput import HEADER, line, rate

LEAST_ONCE = "at-least-once"
EXACTLY_ONCE = "exactly-once"


def at_least_once(job: Job) -> list[list[str]]:
    """The pipeline without its ledger."""
    commands = pipeline(job)
    file = job.directory / "pipeline.toml"
    text = file.read_text().replace("[pipeline]\n", f'[pipeline]\ndelivery = "{LEAST_ONCE}"\n')
    file.write_text(text)
    return commands


VARIANTS: dict[str, Callable[[Job], list[list[str]]]] = {
    EXACTLY_ONCE: pipeline,
    LEAST_ONCE: at_least_once,
}


def main() -> int:
    """Run, print the ratios; 1 where a row is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.delivery", description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs: dict[str, list[Drained]] = {name: [] for name in VARIANTS}
    with servers() as started:
        topic = filled(started, options.records, options.keys, 1)
        print(HEADER)
        for _ in range(options.rounds):
            for name, commands in VARIANTS.items():
                runs[name].append(drain(started, topic, name, commands))
                print(line(runs[name][-1]), flush=True)
    guarantee = 1 - rate(runs[EXACTLY_ONCE]) / rate(runs[LEAST_ONCE])
    cpu = {name: statistics.median(run.postgres_cpu for run in runs[name]) for name in runs}
    print(f"the guarantee costs {guarantee:.1%} of the throughput, and of Postgres's CPU")
    print(
        f"  {cpu[EXACTLY_ONCE] - cpu[LEAST_ONCE]:.2f} µs a record ({cpu[LEAST_ONCE]:.2f} without)"
    )
    return int(any(run.wrong for measured in runs.values() for run in measured))


if __name__ == "__main__":
    sys.exit(main())
