"""What does a move from synchronous to asynchronous cost and give?

One endpoint three ways, one after the other on the same machine: the request writes to Postgres through
a pool (Starlette, uvicorn, asyncpg); `pipeline ingest` and `pipeline run`; the same with Prefer: wait=2.
The load is on a schedule that does not wait for answers: latency counts from when a request was due. In
each scenario something happens for --seconds, with ordinary load before and after. Figures are of the
requests that were due meanwhile. When a write is visible is told by Postgres (commit timestamps), when
it was accepted by the timestamp of its record in Kafka.

Scenarios that are not measured keep their figures in the file. Without --json, the page
docs/design/sync-to-async.md gets the tables and pictures.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench.harness.drain import servers
from bench.harness.goals import Goal, at_most
from bench.harness.question import Answer, answer, parser
from bench.sync_async import method, report
from bench.sync_async.measure import measure as measure_one
from bench.sync_async.scenarios import SCENARIOS
from bench.sync_async.ways import WAYS

METHOD = "method"


def goals(scenarios: dict[str, Any]) -> list[Goal]:
    """Return that nothing may be lost or doubled, in all that was measured."""
    runs = [run for found in scenarios.values() for run in found["ways"].values()]
    return [
        at_most(f"writes {name}", sum(run[name] for run in runs), 0) for name in ("lost", "doubled")
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure the scenarios that were asked for.

    Raises:
        DrainFailed, LocalError: a server or a program failed.
    """
    file: Path = options.json
    known = orjson.loads(file.read_bytes()) if file.exists() else {}
    scenarios: dict[str, Any] = known.get("scenarios", {})
    checked: dict[str, Any] | None = known.get(METHOD)
    if METHOD in options.scenario:
        checked = method.measured()
        print(report.line_of_method(checked), flush=True)
    wanted = [SCENARIOS[name] for name in options.scenario if name != METHOD]
    if wanted:
        with servers() as started:
            for scenario in wanted:
                scenarios[scenario.name] = {
                    "date": datetime.now(UTC).isoformat(timespec="seconds"),
                    "load_before": os.getloadavg()[0],
                    "rate": options.rate,
                    "seconds": options.seconds,
                    "ways": {},
                }
                for way in WAYS:
                    found = measure_one(started, scenario, way, options.rate, options.seconds)
                    scenarios[scenario.name]["ways"][way] = found
                    print(report.line(scenario, way, found), flush=True)
    ordered = {name: scenarios[name] for name in SCENARIOS if name in scenarios}
    reached = [*(method.goals(checked) if checked else []), *goals(ordered)]
    return Answer({METHOD: checked, "scenarios": ordered}, reached)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    names = [METHOD, *SCENARIOS]
    made = parser("sync_async", __doc__, "--scenario steady spike --rate 60 --seconds 20")
    made.set_defaults(json=report.RESULTS)
    made.add_argument(
        "--scenario", nargs="+", choices=names, default=names, metavar="NAME",
        help=f"some of them: {', '.join(names)}",
    )  # fmt: skip
    made.add_argument("--rate", type=float, default=60.0, help="requests/s (default: 60)")
    made.add_argument("--seconds", type=float, default=20.0, help="it lasts (default: 20)")
    return answer(made.parse_args(arguments), measure, report.write)


if __name__ == "__main__":
    sys.exit(main())
