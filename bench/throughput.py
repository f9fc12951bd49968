"""How fast does one ``pipeline run`` drain a backlog, as a share of the bare loop's rate?

The programs take turns, round after round, on the same servers and the same topic, so that whatever
else the machine does affects all of them. The goal is on the ratio of the median rates of the pipeline
and of the fast bare loop: an absolute rate would fail on another machine. If a gated goal is missed, as
many rounds are measured again and count with the first: one noisy minute of a shared machine is no
verdict.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from bench.harness.drain import servers
from bench.harness.experiment import Experiment, Variant
from bench.harness.goals import Goal, at_least
from bench.harness.question import Answer, add_load, answer, bound_of, gated, parser
from bench.harness.report import medians
from bench.harness.topics import Load, Topics
from bench.subjects.programs import FAST_LOOP, PIPELINE, PROGRAMS

RATIO = 0.75


def measure(options: argparse.Namespace) -> Answer:
    """Measure all programs in turn.

    Raises:
        DrainFailed: a program failed.
    """
    load = Load(options.records, options.keys, options.seed)
    experiment = Experiment(
        [Variant(name, commands, load, patience=120) for name, commands in PROGRAMS.items()]
    )
    with servers() as started:
        topics = Topics(started)
        experiment.measure(topics, options.rounds)
        if gated(options) and not goal(experiment.median("rate"), bound_of(options)).met:
            print("the goal is missed: as many rounds again")
            experiment.measure(topics, options.rounds)
    rates, cpu = experiment.median("rate"), experiment.median("cpu")
    ratios = ratios_of(rates)
    shown = {name: f"pipeline is {ratio:.2f} of it" for name, ratio in ratios.items()}
    print(medians(rates, cpu, shown))
    figures = {"ratios": ratios, "runs": experiment.as_json()}
    return Answer(figures, [goal(rates, bound_of(options))], experiment.wrong)


def ratios_of(rates: Mapping[str, float]) -> dict[str, float]:
    """Return the pipeline's rate as a share of each other program's."""
    return {name: rates[PIPELINE] / rate for name, rate in rates.items() if name != PIPELINE}


def goal(rates: Mapping[str, float], bound: float) -> Goal:
    """Return the goal on the ratio to the fast bare loop."""
    return at_least(f"pipeline ÷ {FAST_LOOP}", ratios_of(rates)[FAST_LOOP], bound)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("throughput", __doc__, "--records 250000 --rounds 4 --gate", bound=RATIO)
    add_load(made, 500_000, 3)
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
