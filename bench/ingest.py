"""How fast is the HTTP endpoint, beside what people would write themselves?

`pipeline ingest`; Starlette and aiokafka on uvicorn; aiokafka behind Hypercorn's Trio worker; Go's
net/http and franz-go. One process each, in turn, round after round, with the same broker; all answer
when it has acknowledged. wrk posts single records, then bodies of 100 lines, over 64 connections, as
fast as they are answered: that gives rates, and the server's CPU per request or record. Then single
records come at a fixed rate on a schedule that does not wait for answers: that gives p50 and p99.

receipts: `pipeline run` beside it, and requests with Prefer: wait=2, answered when the row is committed.

The broker and the load share the cores with what is measured, so rates are ratios at best; CPU is of the
server alone.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import tomli_w
import trio

from bench.harness import load, usage, wrk
from bench.harness.drain import DrainFailed, Job, servers
from bench.harness.figures import Spread
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.http_client import Client, post
from bench.harness.open_loop import fire, steps
from bench.harness.question import Answer, answer, parser
from bench.subjects.configuration import configuration
from bench.subjects.peers import environment
from bench.sync_async.measure import measure as measure_way
from bench.sync_async.scenarios import SCENARIOS
from bench.sync_async.ways import WAIT
from pipeline.local import Servers
from pipeline.local.ports import HOST, answers, free_port

ROOT = Path(__file__).parents[1]
OURS, UVICORN = "pipeline ingest", "uvicorn, Starlette, aiokafka"
HYPERCORN, GO = "hypercorn (Trio), aiokafka", "Go: net/http, franz-go"
TOPIC, PARTITIONS = "records", 6
JSON, NDJSON = "application/json", "application/x-ndjson"
LINES = 100
CONNECTIONS = 64
START_SECONDS, WARM_SECONDS = 30.0, 1

LEAST_RATIO, MOST_CPU = 1.5, 60.0
LEAST_LINES = 60_000
WAIT_P50, WAIT_P99 = 15.0, 60.0


@attrs.frozen
class Run:
    """What one run measured.

    Attributes:
        rate: single records a second.
        cpu: µs of the server for each.
        lines: records a second in bodies of `LINES`.
        line_cpu: µs of the server for each.
        p50, p99: ms, of single records on a schedule.
    """

    server: str
    rate: float
    cpu: float
    lines: float
    line_cpu: float
    p50: float
    p99: float


def _ours(port: int, bootstrap: str, directory: Path) -> list[str]:
    job = Job(bootstrap, TOPIC, "ingest", "postgresql://localhost/unused", directory)
    tables = configuration(job, http=None)
    tables["records"]["tenant"] = "app_id"
    tables["ingest"] = {"listen": f"{HOST}:{port}"}
    file = directory / "ingest.toml"
    file.write_text(tomli_w.dumps(tables))
    return [sys.executable, "-m", "pipeline", "ingest", "--config", str(file)]


def _python(module: str, port: int, bootstrap: str, _directory: Path) -> list[str]:
    program = f"bench.subjects.peers.{module}"
    return [str(environment.http()), "-m", program, str(port), bootstrap, TOPIC]


def _go(port: int, bootstrap: str, _directory: Path) -> list[str]:
    return [str(environment.go()), str(port), bootstrap, TOPIC]


Command = Callable[[int, str, Path], list[str]]

SERVERS: Mapping[str, Command] = {
    OURS: _ours,
    UVICORN: partial(_python, "starlette_records"),
    HYPERCORN: partial(_python, "trio_records"),
    GO: _go,
}
BUILDS: Mapping[str, Callable[[], object]] = {
    OURS: lambda: None,
    UVICORN: environment.http,
    HYPERCORN: environment.http,
    GO: environment.go,
}


@contextmanager
def started(name: str, bootstrap: str) -> Iterator[tuple[int, int]]:
    """Run an endpoint for the block; give its process id and its port.

    Raises:
        DrainFailed: it does not listen in time.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ingest-") as directory:
        command = SERVERS[name](port, bootstrap, Path(directory))
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        try:
            due = time.monotonic() + START_SECONDS
            while not answers(port):
                if time.monotonic() > due or process.poll() is not None:
                    raise DrainFailed(f"{name} does not listen: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield process.pid, port
        finally:
            process.terminate()
            process.wait()


def run(name: str, bootstrap: str, options: argparse.Namespace) -> Run:
    """Measure one endpoint once.

    Raises:
        DrainFailed: it or wrk failed, or an answer was no success.
    """
    singles = [value for _, value in load.records(1000, 100_000, 1)]
    bodies = [b"\n".join(singles[first : first + LINES]) for first in range(0, 1000, LINES)]
    with started(name, bootstrap) as (pid, port):
        url = f"http://{HOST}:{port}/v1/records"

        def measured(bodies: Sequence[bytes], media_type: str) -> tuple[float, float]:
            wrk.post(url, bodies, media_type, WARM_SECONDS, CONNECTIONS)
            pids = [pid, *usage.tree([pid])]
            before = usage.cpu_seconds(pids)
            rate, count = wrk.post(url, bodies, media_type, options.seconds, CONNECTIONS)
            return rate, (usage.cpu_seconds(pids) - before) / count * 1e6

        rate, cpu = measured(singles, JSON)
        batches, batch_cpu = measured(bodies, NDJSON)
        spread = trio.run(_scheduled, port, singles, options.rate, options.seconds)
    return Run(name, rate, cpu, batches * LINES, batch_cpu / LINES, spread.p50, spread.p99)


async def _scheduled(port: int, bodies: Sequence[bytes], rate: float, seconds: float) -> Spread:
    """Send single records at a rate; return what they took, in ms.

    Raises:
        DrainFailed: one was not accepted.
    """
    client = Client(HOST, port)

    async def send(number: int, due: float) -> int:
        return await client.send(post(HOST, "/v1/records", bodies[number % len(bodies)]), due)

    await fire(steps([(rate, WARM_SECONDS)]), send)
    shots = await fire(steps([(rate, seconds)]), send)
    client.close()
    if not all(shot.good for shot in shots):
        raise DrainFailed(
            f"not accepted: {sorted({shot.status for shot in shots if not shot.good})}"
        )
    return Spread.of(shot.latency * 1000 for shot in shots)


def receipts(started_servers: Servers, options: argparse.Namespace) -> dict[str, Any]:
    """Measure requests that wait until their row is committed."""
    found = measure_way(
        started_servers, SCENARIOS["steady"], WAIT, options.rate, float(options.seconds)
    )
    return {
        "rate": options.rate,
        "p50": found["http"]["p50"] * 1000,
        "p99": found["http"]["p99"] * 1000,
        "statuses": found["statuses"],
    }


def goals(medians: Mapping[str, Mapping[str, float]], waited: Mapping[str, Any]) -> list[Goal]:
    """Return what is to be reached."""
    ours = medians[OURS]
    found = [
        at_most("CPU per single record, µs", ours["cpu"], MOST_CPU),
        at_least("records in lines per second of CPU", 1e6 / ours["line_cpu"], LEAST_LINES),
    ]
    if UVICORN in medians:
        ratio = ours["rate"] / medians[UVICORN]["rate"]
        found.append(at_least(f"single records/s ÷ {UVICORN}", ratio, LEAST_RATIO))
    if waited:
        found.append(at_most("Prefer: wait=2, p50, ms", waited["p50"], WAIT_P50))
        found.append(at_most("Prefer: wait=2, p99, ms", waited["p99"], WAIT_P99))
    return found


def buildable() -> tuple[list[str], dict[str, str]]:
    """Return the endpoints that can be run here, and why the others can't."""
    names, skipped = [], {}
    for name, build in BUILDS.items():
        try:
            build()
        except environment.BuildFailed as problem:
            skipped[name] = str(problem)
        else:
            names.append(name)
    return names, skipped


def measure(options: argparse.Namespace) -> Answer:
    """Measure all endpoints in turn, then receipts.

    Raises:
        DrainFailed: as `run`.
    """
    names, skipped = buildable()
    runs = []
    with servers() as all_servers:
        all_servers.create_topic(TOPIC, PARTITIONS)
        for _ in range(options.rounds):
            for name in names:
                runs.append(run(name, all_servers.bootstrap, options))
                print(line(attrs.asdict(runs[-1])), flush=True)
        waited = receipts(all_servers, options) if options.receipts else {}
    medians = {name: _median([run for run in runs if run.server == name]) for name in names}
    figures = {"medians": medians, "runs": [attrs.asdict(run) for run in runs], "receipts": waited}
    return Answer(figures, goals(medians, waited), skipped=skipped)


def _median(runs: Sequence[Run]) -> dict[str, float]:
    names = [field.name for field in attrs.fields(Run) if field.name != "server"]
    return {name: statistics.median(getattr(run, name) for run in runs) for name in names}


def line(run: Mapping[str, Any]) -> str:
    """Format a run as a line."""
    return (
        f"{run['server']:30}{run['rate']:8,.0f}/s{run['cpu']:8.1f} µs"
        f"   lines {run['lines']:9,.0f}/s{run['line_cpu']:7.2f} µs"
        f"   p50 {run['p50']:6.1f} ms  p99 {run['p99']:7.1f} ms"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("ingest", __doc__, "--seconds 5 --rounds 3 --gate")
    made.add_argument("--seconds", type=int, default=5, help="per measurement (default: 5)")
    made.add_argument("--rounds", type=int, default=3, help="of all in turn (default: 3)")
    made.add_argument(
        "--rate", type=float, default=500.0, help="on a schedule, requests/s (default: 500)"
    )
    made.add_argument("--no-receipts", dest="receipts", action="store_false", help="without those")
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
