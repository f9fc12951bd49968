"""What do idempotency keys cost? The same records with and without `dedupe_for`, in turn.

without keys   as delivered
with keys      the key of each record is looked up, noted and remembered

Both read the same topic, in which each record carries a key of its own in its header, as `pipeline ingest`
writes it: both do the same work on the table. There is no goal: what a client may send twice is for its users
to say.
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

WITHOUT, WITH = "without keys", "with keys"
KEYS = {"key": "id", "dedupe_for": "24h"}


def variants(load: Load) -> list[Variant]:
    """Return the pipeline without keys and with them."""
    return [
        Variant(WITHOUT, pipeline, load),
        Variant(WITH, partial(pipeline, records=KEYS), load),
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure both in turn.

    Raises:
        DrainFailed: a run failed.
    """
    experiment = Experiment(
        variants(Load(options.records, options.keys, options.seed, idempotency_keys=True))
    )
    with servers() as started:
        experiment.measure(Topics(started), options.rounds)
    costs = costs_of({figure: experiment.median(figure) for figure in FIGURES})
    print(
        f"with keys {costs['ratio']:.2f} x the throughput; a key costs "
        f"{costs['cpu']:.1f} µs of CPU here and {costs['postgres_cpu']:.1f} µs in Postgres"
    )
    return Answer({"costs": costs, "runs": experiment.as_json()}, wrong=experiment.wrong)


FIGURES = ("rate", "cpu", "postgres_cpu")


def costs_of(medians: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the ratio of the throughputs, and what a key costs: µs per record."""
    found = {figure: by[WITH] - by[WITHOUT] for figure, by in medians.items() if figure != "rate"}
    return {"ratio": medians["rate"][WITH] / medians["rate"][WITHOUT], **found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("deduplication", __doc__, "--records 250000 --rounds 2", goals=False)
    add_load(made, 500_000, 3)
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
