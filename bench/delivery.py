"""What the guarantee and the metrics cost: the same pipeline with and without, in turn in one run.

exactly-once, metrics on    as delivered
at-least-once               no ledger, no fence
exactly-once, scraped       metrics read ten times a second, far more than anybody would
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

from bench.drain import Drained, Job, drain, filled, servers
from bench.programs import pipeline
from bench.throughput import HEADER, line, rate

LEAST_ONCE = "at-least-once"
EXACTLY_ONCE = "exactly-once"
SCRAPED = "exactly-once, scraped"

SCRAPER = """\
import sys, threading, time, urllib.request
from pipeline.cli import main
import pipeline.observe.metrics as metrics
def scrape(all_metrics):
    while True:
        time.sleep(0.1)
        all_metrics.render()
made = metrics.Metrics.__init__
def init(self):
    made(self)
    threading.Thread(target=scrape, args=(self,), daemon=True).start()
metrics.Metrics.__init__ = init
sys.exit(main(sys.argv[1:]))
"""


def at_least_once(job: Job) -> list[list[str]]:
    """The pipeline without its ledger."""
    commands = pipeline(job)
    file = job.directory / "pipeline.toml"
    text = file.read_text().replace("[pipeline]\n", f'[pipeline]\ndelivery = "{LEAST_ONCE}"\n')
    file.write_text(text)
    return commands


def scraped(job: Job) -> list[list[str]]:
    """The pipeline with its metrics rendered all the time."""
    (command,) = pipeline(job)
    python, _, _, *arguments = command
    return [[python, "-c", SCRAPER, *arguments]]


VARIANTS: dict[str, Callable[[Job], list[list[str]]]] = {
    EXACTLY_ONCE: pipeline,
    LEAST_ONCE: at_least_once,
    SCRAPED: scraped,
}


def main() -> int:
    """Run, print the ratios; 1 where a row is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.delivery", description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs: dict[str, list[Drained]] = {name: [] for name in VARIANTS}
    with servers() as started:
        topic = filled(started, options.records, options.keys, 1)
        print(HEADER)
        for _ in range(options.rounds):
            for name, commands in VARIANTS.items():
                runs[name].append(drain(started, topic, name, commands))
                print(line(runs[name][-1]), flush=True)
    guarantee = 1 - rate(runs[EXACTLY_ONCE]) / rate(runs[LEAST_ONCE])
    cpu = {name: statistics.median(run.postgres_cpu for run in runs[name]) for name in runs}
    scrapes = 1 - rate(runs[SCRAPED]) / rate(runs[EXACTLY_ONCE])
    print(f"the guarantee costs {guarantee:.1%} of the throughput, and of Postgres's CPU")
    print(
        f"  {cpu[EXACTLY_ONCE] - cpu[LEAST_ONCE]:.2f} µs a record ({cpu[LEAST_ONCE]:.2f} without)"
    )
    print(f"scraping the metrics ten times a second costs {scrapes:.1%}")
    return int(any(run.wrong for measured in runs.values() for run in measured))


if __name__ == "__main__":
    sys.exit(main())
