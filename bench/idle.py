"""What an idle instance costs: its CPU while it has nothing to do, as a share of one core.

Measured once it has caught up and committed, in two states: nothing to read, and nothing to read with
the metrics scraped every five seconds. Exit code 1 above 2 % of a core.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from bench.harness import load, usage
from bench.harness.drain import PARTITIONS, Job
from bench.subjects import programs
from pipeline.local import Servers
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until

LIMIT = 0.02
SETTLING_SECONDS = 5.0
SCRAPE_SECONDS = 5.0
RECORDS = 1000


def share(pid: int, seconds: float, scraped: str | None = None) -> float:
    """The CPU that a process uses over so many seconds, as a share of a core."""
    before, started = usage.cpu_seconds([pid]), time.monotonic()
    next_scrape = started
    while (now := time.monotonic()) < started + seconds:
        if scraped is not None and now >= next_scrape:
            urlopen(f"http://{scraped}/metrics", timeout=5).read()
            next_scrape += SCRAPE_SECONDS
        time.sleep(0.1)
    return (usage.cpu_seconds([pid]) - before) / (time.monotonic() - started)


def caught_up(dsn: str) -> bool:
    """Whether the table has everything."""
    return psql(dsn, "select coalesce(sum(session_count), 0) from sessions") == str(RECORDS)


def measure(servers: Servers, directory: Path, seconds: float) -> dict[str, float]:
    """The shares of a core by state."""
    servers.create_topic("idle", PARTITIONS)
    dsn = servers.create_database("idle")
    psql(dsn, load.TABLE)
    load.fill(servers.bootstrap, "idle", load.records(RECORDS, 100, seed=1))
    job = Job(servers.bootstrap, "idle", "idle", dsn, directory)
    (command,) = programs.pipeline(job)
    log = directory / "pipeline.log"
    command[command.index("warning")] = "info"  # which says where the metrics are
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        if not wait_until(lambda: caught_up(dsn), 60):
            raise SystemExit(f"the instance did not catch up:\n{log.read_text()[-2000:]}")
        time.sleep(SETTLING_SECONDS)
        address = log.read_text().partition("health on http://")[2].split()[0]
        return {
            "idle": share(process.pid, seconds),
            "idle, scraped every 5 s": share(process.pid, seconds, address),
        }
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Measure and print; 1 above the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each state")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Servers.start() as servers:
        shares = measure(servers, Path(directory), options.seconds)
    for state, part in shares.items():
        print(f"{state:28}{part:7.2%} of a core")
    return int(max(shares.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
