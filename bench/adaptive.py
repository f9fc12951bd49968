"""Does the adaptive limit give way to another load, does it come back, and what does it cost?

Two parts, each with the limit as delivered (adaptive) and fixed at ``connections``:

quiet       a backlog is drained without any other load, in turn, round after round
competing   a backlog is worked off into a table whose rows cost Postgres much (a trigger), and another
            program loads the same server for a while: the limit before, meanwhile and afterwards (read
            from the metrics four times a second), and what the other program's queries took

Goals: in quiet at least 0.97 of the fixed limit's throughput. Meanwhile the mean limit is at most 0.8 of
``connections``; afterwards it is back.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench.harness.drain import DrainFailed, servers
from bench.harness.experiment import Experiment, Variant
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.live import Live
from bench.harness.question import Answer, add_load, answer, parser
from bench.harness.scraping import series
from bench.harness.topics import Load, Topics
from bench.subjects.programs import pipeline
from pipeline.local import Servers
from pipeline.local.ports import HOST, free_port

KEPT = 0.97
FALLEN = 0.8
BACK = 0.95

BEFORE_SECONDS, MEANWHILE_SECONDS, AFTER_SECONDS = 6.0, 14.0, 10.0
BACK_SECONDS = 4.0
"""At the end: by then the limit must be back."""
SETTLING_SECONDS = 1.5
"""After the other program has begun: it connects."""
LOOK_SECONDS = 0.25

BACKLOG = 1_200_000
MAX_BATCH = 500
COSTLY = (
    "create function costs() returns trigger language plpgsql as $$ begin "
    "perform sum(n) from generate_series(1, 300) n; return new; end $$",
    "create trigger costs before insert or update on sessions "
    "for each row execute function costs()",
)
"""About 30 µs of Postgres's CPU a row: Postgres is what bounds the pace."""

KINDS: dict[str, dict[str, Any]] = {"adaptive": {"adaptive": True}, "fixed": {"adaptive": False}}


def quiet(started: Servers, options: argparse.Namespace) -> Experiment:
    """Drain a backlog with each kind of limit in turn.

    Raises:
        DrainFailed: a run failed.
    """
    wanted = Load(options.records, options.keys, options.seed)
    experiment = Experiment(
        [Variant(kind, partial(pipeline, limits=limits), wanted) for kind, limits in KINDS.items()]
    )
    experiment.measure(Topics(started), options.rounds)
    return experiment


def watched(listen: str, seconds: float) -> list[float]:
    """Return the limit as it is in the metrics, again and again for some seconds."""
    found: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found += series(listen, "pipeline_shard_limit").values()
        time.sleep(LOOK_SECONDS)
    return found


def competing(started: Servers, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let another program compete with an instance for a while.

    Raises:
        DrainFailed: a program failed.
    """
    listen = f"{HOST}:{free_port()}"
    commands = partial(
        pipeline, limits={**KINDS[kind], "max_batch": MAX_BATCH}, http={"listen": listen},
        shard={"connections": options.connections},
    )  # fmt: skip
    with Live.open(started, commands) as live:
        for statement in COSTLY:
            live.query(statement)
        live.produced(live.producer(0, records=BACKLOG))
        live.instance()
        live.until(lambda: bool(live.query("select from sessions limit 1")), "rows")
        before = watched(listen, BEFORE_SECONDS)
        other = live.other("competing", f"--dsn={live.job.dsn}", f"--connections={options.others}")
        time.sleep(SETTLING_SECONDS)
        meanwhile = watched(listen, MEANWHILE_SECONDS)
        other.stop()
        afterwards = watched(listen, AFTER_SECONDS)
        if not (before and meanwhile and afterwards):
            raise DrainFailed(f"the metrics at {listen} could not be read")
        if not series(listen, "pipeline_in_flight_batches"):
            raise DrainFailed("the instance ended")
        (left,) = live.query("select count(*) as applied from sessions")
        if left["applied"] >= BACKLOG:
            raise DrainFailed("the backlog was worked off too early: more records")
        queries = json.loads(other.program.log.read_text().splitlines()[-1])
    last = afterwards[-int(BACK_SECONDS / LOOK_SECONDS) :]
    limits = {
        "before": before,
        "meanwhile": meanwhile,
        "afterwards": afterwards,
        "at the end": last,
    }
    means = {name: statistics.mean(values) for name, values in limits.items()}
    shown = ", ".join(f"{name} {mean:.1f}" for name, mean in means.items())
    print(
        f"{kind:<9} limit: {shown}; the other program: {queries['queries']:,} queries, "
        f"p50 {queries['p50']:.0f} ms, p99 {queries['p99']:.0f} ms",
        flush=True,
    )
    return {"means": means, "limits": limits, "other": queries}


def goals(experiment: Experiment, found: dict[str, Any], connections: int) -> list[Goal]:
    """Return the goals of both parts."""
    rates = experiment.median("rate")
    means = found["adaptive"]["means"]
    return [
        at_least("quiet: adaptive ÷ fixed", rates["adaptive"] / rates["fixed"], KEPT),
        at_most(
            "limit beside another load ÷ connections", means["meanwhile"] / connections, FALLEN
        ),
        at_least("limit afterwards ÷ connections", means["at the end"] / connections, BACK),
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure both parts.

    Raises:
        DrainFailed: a program failed.
    """
    with servers() as started:
        found = {kind: competing(started, kind, options) for kind in KINDS}
        experiment = quiet(started, options)
    figures = {"competing": found, "runs": experiment.as_json()}
    return Answer(figures, goals(experiment, found, options.connections), experiment.wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("adaptive", __doc__, "--records 500000 --rounds 4 --gate")
    add_load(made, 500_000, 4)
    made.add_argument(
        "--connections", type=int, default=6, help="of the instance, beside a load (default: 6)"
    )
    made.add_argument(
        "--others", type=int, default=12, help="connections of the other program (default: 12)"
    )
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
