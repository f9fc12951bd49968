"""What metrics cost: the same pipeline with and without them, in turn in one run.

not kept    every counter, gauge and histogram does nothing, and there is no [http]
kept        no [http]
scraped     [http] on, and /metrics read once a second
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from urllib.request import urlopen

from bench.harness.drain import Drained, DrainFailed, Job, Topic, drain, filled, servers
from bench.subjects.programs import HTTP, pipeline
from bench.throughput import HEADER, line, rate
from pipeline.local import Servers
from pipeline.local.ports import HOST, free_port

NOT_KEPT, KEPT, SCRAPED = "not kept", "kept", "scraped"
SCRAPE_SECONDS = 1.0

WITHOUT = """\
import sys
from prometheus_client import Counter, Gauge
from pipeline.cli import main
from pipeline.observe.histogram import Histogram, Series
def nothing(*_, **__): pass
for kind in (Counter, Gauge, Histogram, Series):
    for name in {"inc", "dec", "set", "observe", "observe_many", "observe_ages"} & set(vars(kind)):
        setattr(kind, name, nothing)
sys.exit(main(sys.argv[1:]))
"""


def listening(job: Job, listen: str | None) -> list[list[str]]:
    """The pipeline, its endpoint at an address or nowhere."""
    commands = pipeline(job)
    file = job.directory / "pipeline.toml"
    http = "" if listen is None else f'[http]\nlisten = "{listen}"\n'
    file.write_text(file.read_text().replace(HTTP, http))
    return commands


def without(job: Job) -> list[list[str]]:
    """The pipeline with metrics that do nothing."""
    ((python, _, _, *arguments),) = listening(job, None)
    return [[python, "-c", WITHOUT, *arguments]]


def drain_scraped(started: Servers, topic: Topic) -> Drained:
    """Drain while the endpoint is read once a second.

    Raises:
        DrainFailed: as `drain`, or nothing could be read.
    """
    listen = f"{HOST}:{free_port()}"
    with scraping(f"http://{listen}/metrics") as scrapes:
        run = drain(started, topic, SCRAPED, lambda job: listening(job, listen))
    if not scrapes or b"pipeline_records_applied_total{" not in scrapes[-1]:
        raise DrainFailed("its metrics were never read")
    return run


@contextmanager
def scraping(address: str) -> Iterator[list[bytes]]:
    """Read an address once a second on a thread; gives what was read."""
    answers: list[bytes] = []
    ended = Event()

    def scrape() -> None:
        while not ended.wait(SCRAPE_SECONDS):
            with suppress(OSError), urlopen(address, timeout=SCRAPE_SECONDS) as answer:
                answers.append(answer.read())

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


VARIANTS: Mapping[str, Callable[[Servers, Topic], Drained]] = {
    NOT_KEPT: lambda started, topic: drain(started, topic, NOT_KEPT, without),
    KEPT: lambda started, topic: drain(started, topic, KEPT, lambda job: listening(job, None)),
    SCRAPED: drain_scraped,
}


def main() -> int:
    """Run, print medians and ratios; 1 where a row is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.metrics", description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: dict[str, list[Drained]] = {name: [] for name in VARIANTS}
    with servers() as started:
        topic = filled(started, options.records, options.keys, 1)
        print(HEADER)
        for _ in range(options.rounds):
            for name, drained in VARIANTS.items():
                runs[name].append(drained(started, topic))
                print(line(runs[name][-1]), flush=True)
    print("\n".join(summary(runs)))
    return int(any(run.wrong for measured in runs.values() for run in measured))


def summary(runs: Mapping[str, Sequence[Drained]]) -> Iterator[str]:
    """The medians, and what share of the rate and how much CPU each variant costs."""
    rates = {name: rate(measured) for name, measured in runs.items()}
    cpu = {name: statistics.median(run.cpu for run in runs[name]) for name in runs}
    yield "medians, and against metrics that are not kept"
    for name in runs:
        yield (
            f"{name:<20} {rates[name]:>10,.0f} {cpu[name]:>8.2f}   "
            f"rate {rates[name] / rates[NOT_KEPT] - 1:+.1%}, "
            f"CPU a record {cpu[name] / cpu[NOT_KEPT] - 1:+.1%}"
        )


if __name__ == "__main__":
    sys.exit(main())
