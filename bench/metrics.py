"""What do metrics cost? The same pipeline with and without them, in turn.

not kept    every counter, gauge and histogram does nothing, and there is no [http]
kept        no [http]
scraped     [http] on, and /metrics read once per second

The goal is on the share of the throughput that metrics cost when they are kept and scraped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from bench.harness.drain import servers
from bench.harness.experiment import Experiment, Variant
from bench.harness.goals import at_most
from bench.harness.question import Answer, add_load, answer, bound_of, parser
from bench.harness.report import medians
from bench.harness.scraping import scraping
from bench.harness.topics import Load, Topics
from bench.subjects.programs import pipeline
from pipeline.local.ports import HOST, free_port

NOT_KEPT, KEPT, SCRAPED = "not kept", "kept", "scraped"
SCRAPE_SECONDS = 1.0
COST = 0.02

WITHOUT = """\
import sys
from prometheus_client import Counter, Gauge
from pipeline.cli import main
from pipeline.observe.histogram import Histogram, Series
def nothing(*_, **__): pass
for kind in (Counter, Gauge, Histogram, Series):
    for name in {"inc", "dec", "set", "observe", "observe_many", "observe_ages"} & set(vars(kind)):
        setattr(kind, name, nothing)
sys.exit(main(sys.argv[1:]))
"""


def variants(load: Load, listen: str) -> list[Variant]:
    """Return the pipeline with its metrics off, kept, and scraped at ``listen``."""
    scraped = partial(pipeline, http={"listen": listen})
    return [
        Variant(NOT_KEPT, partial(pipeline, http=None, entry=("-c", WITHOUT)), load),
        Variant(KEPT, partial(pipeline, http=None), load),
        Variant(SCRAPED, scraped, load, beside=partial(scraping, listen, SCRAPE_SECONDS)),
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure all variants in turn.

    Raises:
        DrainFailed: a run failed, or its metrics could not be read.
    """
    load = Load(options.records, options.keys, options.seed)
    experiment = Experiment(variants(load, f"{HOST}:{free_port()}"))
    with servers() as started:
        experiment.measure(Topics(started), options.rounds)
    rates, cpu = experiment.median("rate"), experiment.median("cpu")
    costs = {"throughput": costs_of(rates), "cpu": {n: -cost for n, cost in costs_of(cpu).items()}}
    shown = {
        name: f"costs {costs['throughput'][name]:.1%} of the rate, {costs['cpu'][name]:+.1%} CPU"
        for name in (KEPT, SCRAPED)
    }
    print(medians(rates, cpu, shown))
    goal = at_most("share of the rate, scraped", costs["throughput"][SCRAPED], bound_of(options))
    return Answer({"costs": costs, "runs": experiment.as_json()}, [goal], experiment.wrong)


def costs_of(figures: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each figure is under the one without metrics, as a share of that."""
    return {name: 1 - figures[name] / figures[NOT_KEPT] for name in (KEPT, SCRAPED)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("metrics", __doc__, "--records 250000 --rounds 3 --gate 0.05", bound=COST)
    add_load(made, 500_000, 5)
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
