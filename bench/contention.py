"""What do transactions do to each other if a record writes two rows, by one ordering key and by two?

Each record of a backlog writes a row of its own key and adds to the total of an account; both are random. A
handler does that, in one partition with several transactions at once:

one key             ordered by the record's own key: records of one account run at the same time
one key, sorted     the same, and each transaction takes the accounts in one order, each once
two keys            ordered by both: records of one account run one after another
two keys, sorted    the same, and each transaction takes each account once

What is counted: deadlocks (``pg_stat_database``), sessions that waited for a lock (``pg_stat_activity``,
looked at 50 times per second), and records per second. In the end every row and every total is compared.

Goals: with one key there are deadlocks; with two keys there is none, nothing waits for a lock, and the same
handler is at least as fast.

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
from bench.subjects.programs import pipeline

ONE, ONE_SORTED = "one key", "one key, sorted"
TWO, TWO_SORTED = "two keys", "two keys, sorted"
CONNECTIONS = 8
KEYS = 20_000
ACCOUNTS = 200

STATEMENTS = (
    "create table parents (app text primary key, total bigint not null default 0)",
    f"insert into parents select 'app-' || n from generate_series(0, {ACCOUNTS - 1}) n",
)
EFFECTS = "select sum(total) from parents"


def records(count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Make records of random keys and random accounts."""
    choose = random.Random(seed)
    for number in range(count):
        key = choose.randrange(KEYS)
        yield load.record_of(key, f"app-{choose.randrange(ACCOUNTS)}", number)


def commands(job: Job, key: str | list[str], handler: str, scope: str) -> list[list[str]]:
    """Return the command of an instance."""
    sink = {"handler": f"bench.subjects.touching:{handler}", "scope": scope}
    return pipeline(job, records={"key": key}, sink=sink, shard={"connections": CONNECTIONS})


WAYS: Mapping[str, Commands] = {
    ONE: partial(commands, key="id", handler="in_order", scope="key"),
    ONE_SORTED: partial(commands, key="id", handler="by_account", scope="batch"),
    TWO: partial(commands, key=["id", "app_id"], handler="in_order", scope="key"),
    TWO_SORTED: partial(commands, key=["id", "app_id"], handler="by_account", scope="batch"),
}


def goals(runs: Mapping[str, Contended]) -> list[Goal]:
    """Return that with two keys nothing waits in Postgres, and that this costs nothing."""
    deadlocks = max(runs[name].deadlocks for name in (TWO, TWO_SORTED))
    waiting = max(runs[name].waiting_most for name in (TWO, TWO_SORTED))
    return [
        at_least("one key: deadlocks", runs[ONE].deadlocks, 1),
        at_most("two keys: deadlocks", deadlocks, 0),
        at_most("two keys: waiting for a lock", waiting, 0),
        at_least("two keys ÷ one key, records/s", runs[TWO].rate / runs[ONE].rate, 1.0),
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure every way.

    Raises:
        DrainFailed, LocalError: a program failed.
    """
    runs = {}
    with servers() as started:
        for name, way in WAYS.items():
            runs[name] = contended(
                started, way, partial(records, options.records), partitions=1,
                statements=STATEMENTS, effects=EFFECTS,
            )  # fmt: skip
            print(line(name, runs[name]), flush=True)
    wrong = sum(run.missing + run.stale for run in runs.values())
    figures = {"runs": {name: attrs.asdict(run) for name, run in runs.items()}}
    return Answer(figures, goals(runs), wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("contention", __doc__, "--records 10000 --gate")
    made.set_defaults(json=contended_report.results("contention"))
    made.add_argument("--records", type=int, default=10_000, help="per way (default: 10,000)")
    report = partial(contended_report.write, "contention", rows=False)
    return answer(made.parse_args(arguments), measure, report)


if __name__ == "__main__":
    sys.exit(main())
