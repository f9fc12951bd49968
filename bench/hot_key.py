"""What does it cost if one key has half of the records?

A backlog of which every second record is of one key is drained into one table by

pipeline                    which folds the waiting records of a key into one row
pipeline, one by one        the same with one record per transaction (``max_batch = 1``)
workers, one by one         eight workers at one queue, a transaction per record, and no order

What is counted: records per second, versions of rows that were written, and sessions that waited for a lock
(looked at 50 times per second). The ways that write one by one get a twentieth of the records. In the end
every row is compared: a record that is missing or counted twice is wrong in any way; a row that holds an
older record than its key's last is wrong in the pipeline, and is counted for the workers, who promise none.

Goals: the pipeline is at least 10 times as fast as either other way, writes at most 0.75 rows a record, and
nothing waits for a lock in it.

Without --json, the page docs/design/sharding.md gets the table.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import attrs

from bench.harness import contended_report, load
from bench.harness.contended import Contended, contended, line
from bench.harness.drain import Commands, Job, servers
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.question import Answer, answer, parser
from bench.subjects.programs import PIPELINE, pipeline, python_module

ONE_BY_ONE = "pipeline, one by one"
WORKERS = "workers, one by one"
CONNECTIONS = 8
KEYS = 20_000
FEWER = 20
"""The ways that write one by one get one record of so many."""

FASTER = 10.0
ROWS = 0.75
"""Rows a record: half of the records are of one row."""


def records(count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Make records of which every second one is of key 0."""
    choose = random.Random(seed)
    for number in range(count):
        key = choose.randrange(1, KEYS) if number % 2 else 0
        yield load.record_of(key, f"app-{key % 64}", number)


def workers(job: Job) -> list[list[str]]:
    """Return the command of the workers."""
    options = [*job.arguments(), f"--workers={CONNECTIONS}"]
    return [python_module("bench.subjects.one_by_one", *options)]


SHARD = {"connections": CONNECTIONS}
WAYS: Mapping[str, tuple[Commands, int]] = {
    PIPELINE: (partial(pipeline, shard=SHARD), 1),
    ONE_BY_ONE: (partial(pipeline, shard=SHARD, limits={"max_batch": 1}), FEWER),
    WORKERS: (workers, FEWER),
}
"""Each way, and which part of the records it gets."""


def goals(runs: Mapping[str, Contended]) -> list[Goal]:
    """Return two ratios, and two bounds on what the pipeline does in Postgres."""
    ours = runs[PIPELINE]
    ratios = [
        at_least(f"pipeline ÷ {name}", ours.rate / runs[name].rate, FASTER)
        for name in (ONE_BY_ONE, WORKERS)
    ]
    return [
        *ratios,
        at_most("pipeline: rows written a record", ours.rows / ours.records, ROWS),
        at_most("pipeline: waiting for a lock", ours.waiting_most, 0),
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure every way.

    Raises:
        DrainFailed, LocalError: a program failed.
    """
    runs = {}
    with servers() as started:
        for name, (commands, part) in WAYS.items():
            source = partial(records, options.records // part)
            runs[name] = contended(started, commands, source, partitions=6)
            print(line(name, runs[name]), flush=True)
    wrong = sum(run.missing for run in runs.values())
    wrong += sum(run.stale for name, run in runs.items() if name != WORKERS)
    figures = {"runs": {name: attrs.asdict(run) for name, run in runs.items()}}
    return Answer(figures, goals(runs), wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("hot_key", __doc__, "--records 400000 --gate")
    made.set_defaults(json=contended_report.results("hot_key"))
    made.add_argument(
        "--records", type=int, default=400_000, help="for the pipeline (default: 400,000)"
    )
    report = partial(contended_report.write, "hot_key", rows=True)
    return answer(made.parse_args(arguments), measure, report)


if __name__ == "__main__":
    sys.exit(main())
