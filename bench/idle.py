"""What does an idle instance cost? Its CPU while it has nothing to do, as a share of one core.

Measured once the instance has applied everything and committed, in two states: nothing to read, and
nothing to read while its metrics are scraped every five seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from bench.harness import load, usage
from bench.harness.drain import servers
from bench.harness.goals import at_most
from bench.harness.live import Live
from bench.harness.question import Answer, answer, bound_of, parser
from bench.harness.scraping import scraping
from bench.subjects.programs import pipeline
from pipeline.local import Servers
from pipeline.local.ports import HOST, free_port

SHARE = 0.02
SETTLING_SECONDS = 5.0
SCRAPE_SECONDS = 5.0
RECORDS = 1000
APPLIED = "select coalesce(sum(session_count), 0) from sessions"


def share(pids: Sequence[int], seconds: float) -> float:
    """Return the CPU that processes use over ``seconds``, as a share of one core."""
    before, started = usage.cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    return (usage.cpu_seconds(pids) - before) / (time.monotonic() - started)


def shares(started: Servers, seconds: float) -> dict[str, float]:
    """Measure each state for ``seconds``; return shares of one core.

    Raises:
        DrainFailed: the instance did not apply everything, or its metrics could not be read.
    """
    listen = f"{HOST}:{free_port()}"
    with Live.open(started, partial(pipeline, http={"listen": listen})) as live:
        load.fill(started.bootstrap, live.job.topic, load.records(RECORDS, 100, seed=1))
        instance = live.instance()
        live.until(lambda: live.query(APPLIED)[0][0] == RECORDS, "all records are applied")
        time.sleep(SETTLING_SECONDS)
        pids = usage.tree([instance.guard_pid])
        measured = {}
        for state, beside in (
            ("idle", nullcontext()),
            ("idle, scraped every 5 s", scraping(listen, SCRAPE_SECONDS)),
        ):
            with beside:
                measured[state] = share(pids, seconds)
            print(f"{state:28}{measured[state]:7.2%} of a core", flush=True)
    return measured


def measure(options: argparse.Namespace) -> Answer:
    """Measure both states.

    Raises:
        DrainFailed: as `shares`.
    """
    with servers() as started:
        measured = shares(started, options.seconds)
    goal = at_most("highest share of a core", max(measured.values()), bound_of(options))
    return Answer({"shares": measured}, [goal])


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("idle", __doc__, "--seconds 30 --gate", bound=SHARE)
    made.add_argument(
        "--seconds", type=float, default=20.0, help="per state; at least 10 (default: 20)"
    )
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
