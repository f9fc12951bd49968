"""What does the guarantee cost? The same pipeline with and without it, in turn.

exactly-once     as delivered
at-least-once    no ledger and no fence

There is no goal: what the guarantee may cost is for its users to say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from bench.harness.drain import servers
from bench.harness.experiment import Experiment, Variant
from bench.harness.question import Answer, add_load, answer, parser
from bench.harness.topics import Load, Topics
from bench.subjects.programs import pipeline

EXACTLY_ONCE, AT_LEAST_ONCE = "exactly-once", "at-least-once"


def variants(load: Load) -> list[Variant]:
    """Return the pipeline with each guarantee."""
    return [
        Variant(delivery, partial(pipeline, pipeline={"delivery": delivery}), load)
        for delivery in (EXACTLY_ONCE, AT_LEAST_ONCE)
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure both guarantees in turn.

    Raises:
        DrainFailed: a run failed.
    """
    experiment = Experiment(variants(Load(options.records, options.keys, options.seed)))
    with servers() as started:
        experiment.measure(Topics(started), options.rounds)
    costs = costs_of(experiment.median("rate"), experiment.median("postgres_cpu"))
    print(
        f"the guarantee costs {costs['throughput']:.1%} of the throughput and "
        f"{costs['postgres_cpu']:.2f} µs of Postgres's CPU per record "
        f"({experiment.median('postgres_cpu')[AT_LEAST_ONCE]:.2f} without it)"
    )
    return Answer({"costs": costs, "runs": experiment.as_json()}, wrong=experiment.wrong)


def costs_of(rates: Mapping[str, float], cpu: Mapping[str, float]) -> dict[str, float]:
    """Return the share of the throughput and the CPU of Postgres, µs per record, that it costs."""
    return {
        "throughput": 1 - rates[EXACTLY_ONCE] / rates[AT_LEAST_ONCE],
        "postgres_cpu": cpu[EXACTLY_ONCE] - cpu[AT_LEAST_ONCE],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("delivery", __doc__, "--records 250000 --rounds 2", goals=False)
    add_load(made, 500_000, 3)
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
