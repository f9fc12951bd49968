"""How fast is the HTTP server, beside Hypercorn's Trio worker and uvicorn?

All serve the same trivial ASGI application, one process each, in turn, round after round. wrk loads them
from one thread over 32 connections that are kept. The goals are ratios of the medians of requests/s; CPU
is the server's own, per request. wrk takes the second core, so nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import attrs

from bench.harness import usage
from bench.harness.drain import DrainFailed
from bench.harness.goals import Goal, at_least
from bench.harness.question import Answer, answer, parser
from bench.subjects.peers import environment
from pipeline.local.ports import HOST, free_port

ROOT = Path(__file__).parents[1]
APP = "bench.subjects.http_application:app"
OURS, HYPERCORN = "pipeline", "hypercorn, Trio"
ASYNCIO, UVLOOP = "uvicorn, asyncio", "uvicorn, uvloop"
GOALS = {HYPERCORN: 10.0, UVLOOP: 0.9, ASYNCIO: 0.9}
"""The least ratios of requests/s to each peer."""
START_SECONDS, WARM_SECONDS = 30.0, 1


def _ours(port: int) -> list[str]:
    return [sys.executable, "-m", "bench.subjects.http_server", str(port)]


def _hypercorn(port: int) -> list[str]:
    return [_python(), "-m", "hypercorn", "-k", "trio", "-b", f"{HOST}:{port}", APP]


def _uvicorn(loop: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        options = [
            "--loop",
            loop,
            "--http",
            "httptools",
            "--no-access-log",
            "--log-level",
            "warning",
        ]
        return [_python(), "-m", "uvicorn", "--host", HOST, "--port", str(port), *options, APP]

    return command


def _python() -> str:
    return str(environment.http())


SERVERS: Mapping[str, Callable[[int], list[str]]] = {
    OURS: _ours,
    UVLOOP: _uvicorn("uvloop"),
    ASYNCIO: _uvicorn("asyncio"),
    HYPERCORN: _hypercorn,
}


@attrs.frozen
class Run:
    """What one run measured: requests/s, and CPU in µs a request."""

    server: str
    rate: float
    cpu: float


@contextmanager
def started(name: str) -> Iterator[tuple[int, str]]:
    """Run a server for the block; give its process id and its address."""
    port = free_port()
    process = subprocess.Popen(SERVERS[name](port), cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        url = f"http://{HOST}:{port}/"
        _until_it_answers(name, url)
        yield process.pid, url
    finally:
        process.kill()
        process.wait()


def _until_it_answers(name: str, url: str) -> None:
    due = time.monotonic() + START_SECONDS
    while True:
        try:
            with urlopen(url, timeout=5) as answered:
                answered.read()
                return
        except OSError as problem:
            if time.monotonic() > due:
                raise DrainFailed(f"{name} does not answer: {problem}") from problem
            time.sleep(0.1)


def load(url: str, seconds: int) -> tuple[float, int]:
    """Load an address by wrk; return requests/s and how many were answered.

    Raises:
        DrainFailed: wrk failed, or an answer was not 200.
    """
    command = ["wrk", "-t1", "-c32", f"-d{seconds}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    if rate is None or count is None or "Non-2xx" in done.stdout:
        raise DrainFailed(f"wrk: {done.stdout}{done.stderr}")
    return float(rate[1]), int(count[1])


def run(name: str, seconds: int) -> Run:
    """Measure one server once."""
    with started(name) as (pid, url):
        load(url, WARM_SECONDS)
        pids = [pid, *usage.tree([pid])]
        before = usage.cpu_seconds(pids)
        rate, count = load(url, seconds)
        cpu = (usage.cpu_seconds(pids) - before) / count * 1e6
    return Run(name, rate, cpu)


def goals(rates: Mapping[str, float]) -> list[Goal]:
    """Return the goals of the peers that were measured."""
    return [
        at_least(f"requests/s ÷ {peer}", rates[OURS] / rates[peer], bound)
        for peer, bound in GOALS.items()
        if OURS in rates and peer in rates
    ]


def measure(options: argparse.Namespace) -> Answer:
    """Measure all servers in turn.

    Raises:
        DrainFailed: wrk is missing or failed, or a server did not answer.
    """
    if shutil.which("wrk") is None:
        raise DrainFailed("wrk is missing: deploy/setup --test-servers installs it")
    names, skipped = list(SERVERS), {}
    try:
        environment.http()
    except environment.BuildFailed as problem:
        names = [OURS]
        skipped = dict.fromkeys(GOALS, str(problem))
    runs = []
    for _ in range(options.rounds):
        for name in names:
            runs.append(run(name, options.seconds))
            print(f"{name:20}{runs[-1].rate:10,.0f}/s{runs[-1].cpu:8.1f} µs of CPU", flush=True)
    rates = {
        name: statistics.median(run.rate for run in runs if run.server == name) for name in names
    }
    cpu = {name: statistics.median(run.cpu for run in runs if run.server == name) for name in names}
    figures = {"rates": rates, "cpu": cpu, "runs": [attrs.asdict(run) for run in runs]}
    return Answer(figures, goals(rates), skipped=skipped)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("http", __doc__, "--seconds 5 --rounds 3 --gate")
    made.add_argument("--seconds", type=int, default=5, help="per run (default: 5)")
    made.add_argument("--rounds", type=int, default=3, help="of all servers in turn (default: 3)")
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
