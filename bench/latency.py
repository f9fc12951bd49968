"""How long does a record take from the producer until it is visible in Postgres?

A producer in a process of its own writes records at a fixed rate. Each has an id of its own and says
when it was due. Postgres keeps the time of each commit (``track_commit_timestamp``; everything runs on
one machine and has one clock), so nothing polls the table meanwhile. Postgres takes that time just
before it flushes the WAL, and others see the row only afterwards: the mean flush time of ``pg_stat_io``
is added to every figure. The producer's own linger and delays count too. The first half minute after
the first row is left out: the instance starts, and a new broker runs uncompiled code, which takes four
times the CPU.

Measured twice: at a light load, and at a share of the rate at which one instance drains a backlog of
the same records. There the producer competes for the same cores; its CPU is printed. If that rate can't
be held beside the producer, that is said, and the same share of the rate that was held is measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from bench.harness.drain import DrainFailed, drain, servers
from bench.harness.figures import Spread
from bench.harness.goals import Goal, at_most
from bench.harness.live import PATIENCE, Live
from bench.harness.paced import Produced
from bench.harness.question import Answer, answer, parser
from bench.harness.topics import Topic
from bench.subjects.programs import PIPELINE, pipeline
from pipeline.local import Servers

SETTLING_SECONDS = 5.0
"""The warm-up under load: the broker has served the backlog by then."""
LINGER_SECONDS = 0.005
"""The default of Kafka's own producer since 4.0."""
HELD = 0.99
"""A rate is held if this share of it is committed while it is produced."""

LIGHT_GOALS = {"p50": 8.0, "p99": 30.0}
LOADED_GOALS = {"p99": 250.0}
"""The highest values, in ms."""

COMMITTED = """\
select extract(epoch from last_seen)::float8 as due,
       extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as committed,
       (tags->>'late')::float8 / 1e6 as late
from sessions"""
FLUSHES = """\
select coalesce(sum(fsyncs), 0)::bigint as flushes,
       coalesce(sum(fsync_time), 0)::float8 as milliseconds
from pg_stat_io where object = 'wal'"""


@attrs.frozen
class Sample:
    """One record. ``due`` and ``committed`` are seconds since the epoch, ``late`` is in seconds."""

    due: float
    committed: float
    late: float
    """How long after it was due the producer made it."""


@attrs.frozen
class Measured:
    """One run. Times are in ms, rates in records per second."""

    asked: float
    produced: float
    """By the producer's own account."""
    held: float
    """Committed while the producer ran."""
    producer_cpu: float
    """As a share of a core."""
    flush: float
    """The mean time of a flush of the WAL."""
    visible: Spread
    before_kafka: Spread


def committed_within(samples: list[Sample], start: float, end: float) -> float:
    """Return which share of the records due in a time span was committed in it."""
    due = [sample for sample in samples if start <= sample.due < end]
    return sum(sample.committed <= end for sample in due) / len(due) if due else 0.0


def measured(servers: Servers, rate: float, seconds: float, warm_up: float) -> Measured:
    """Produce beside an instance, and read what became of the records due after the warm-up.

    Raises:
        DrainFailed: the producer failed, not all records were applied, or none was due after the
            warm-up.
    """
    with Live.open(servers, pipeline) as live:
        live.instance()
        producer = live.producer(rate, seconds=warm_up + seconds, linger=LINGER_SECONDS)
        live.until(lambda: bool(live.query("select from sessions limit 1")), "a first row")
        (before,) = live.query(FLUSHES)
        produced = live.produced(producer, warm_up + seconds + PATIENCE)
        count = "select count(*) from sessions"
        live.until(lambda: live.query(count)[0][0] == produced.records, "all rows")
        (after,) = live.query(FLUSHES)
        samples = [Sample(*row) for row in live.query(COMMITTED)]
    flushes = after["flushes"] - before["flushes"]
    flush = (after["milliseconds"] - before["milliseconds"]) / flushes if flushes else 0.0
    start = min(sample.committed for sample in samples) + warm_up
    if not any(sample.due >= start for sample in samples):
        raise DrainFailed("no record was due after the warm-up: more --seconds")
    return figures(samples, start, rate, produced, flush)


def figures(
    samples: list[Sample], start: float, rate: float, produced: Produced, flush: float
) -> Measured:
    """Compute the figures of the records due from ``start`` on; ``flush`` is in ms."""
    counted = [sample for sample in samples if sample.due >= start]
    share = committed_within(samples, start, produced.ended)
    return Measured(
        asked=rate,
        produced=produced.rate,
        held=produced.rate * share,
        producer_cpu=produced.cpu / (produced.ended - produced.started),
        flush=flush,
        visible=Spread.of((s.committed - s.due) * 1000 + flush for s in counted),
        before_kafka=Spread.of(s.late * 1000 for s in counted),
    )


def drain_rate(servers: Servers, records: int) -> float:
    """Measure how many of the same records per second one instance drains from a backlog.

    Raises:
        DrainFailed: it failed, or rows are wrong.
    """
    with Live.open(servers, pipeline) as live:
        produced = live.produced(live.producer(0, records=records))
        expected: dict[int, tuple[Any, ...]] = {n: (1, n) for n in range(produced.records)}
        run = drain(servers, Topic(live.job.topic, records, expected), PIPELINE, pipeline)
    if run.wrong:
        raise DrainFailed(f"{run.wrong} rows differ from what was produced")
    return run.rate


def show(found: Measured) -> None:
    """Print a run."""
    print(f"  {'ms':<26}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    for name, spread in (
        ("produced → visible", found.visible),
        ("of it before Kafka", found.before_kafka),
    ):
        shown = (spread.p50, spread.p90, spread.p99, spread.highest)
        print(f"  {name:<26}" + "".join(f"{figure:>9.1f}" for figure in shown))
    print(
        f"  {found.visible.count:,} records; a flush takes {found.flush:.1f} ms; the producer "
        f"uses {found.producer_cpu:.0%} of a core",
        flush=True,
    )


def goals(part: str, found: Measured, bounds: Mapping[str, float]) -> list[Goal]:
    """Return the goals of a part, from the bounds in ms of its percentiles."""
    return [
        at_most(f"{part}: {name}, ms", getattr(found.visible, name), bound)
        for name, bound in bounds.items()
    ]


def loaded(servers: Servers, options: argparse.Namespace) -> dict[str, Measured | float]:
    """Measure at a share of the drain rate; if it can't be held, at that share of what is held.

    Raises:
        DrainFailed: as `measured` and `drain_rate`.
    """
    drained = drain_rate(servers, options.records)
    rate = drained * options.load
    print(
        f"{options.load:.0%} of the {drained:,.0f} records/s that one instance drains", flush=True
    )
    found = measured(servers, rate, options.seconds, SETTLING_SECONDS)
    show(found)
    if found.held >= HELD * rate:
        return {"drained": drained, "loaded": found}
    print(
        f"  {rate:,.0f} records/s can't be held on this machine with the producer beside it: "
        f"{found.produced:,.0f} were produced, {found.held:,.0f} committed meanwhile"
    )
    rate = found.held * options.load
    print(f"{options.load:.0%} of that, {rate:,.0f} records/s", flush=True)
    second = measured(servers, rate, options.seconds, SETTLING_SECONDS)
    show(second)
    return {"drained": drained, "too much": found, "loaded": second}


def measure(options: argparse.Namespace) -> Answer:
    """Measure both parts.

    Raises:
        DrainFailed: as `measured` and `drain_rate`.
    """
    parts: dict[str, Measured | float] = {}
    with servers() as started:
        if options.rate:
            print(f"{options.rate:,.0f} records/s", flush=True)
            light = measured(started, options.rate, options.seconds, options.warm_up)
            show(light)
            parts["light"] = light
        if options.load:
            parts |= loaded(started, options)
    reached = [
        goal
        for part, bounds in (("light", LIGHT_GOALS), ("loaded", LOADED_GOALS))
        if isinstance(found := parts.get(part), Measured)
        for goal in goals(part, found, bounds)
    ]
    figures = {
        part: attrs.asdict(found) if isinstance(found, Measured) else found
        for part, found in parts.items()
    }
    return Answer({"parts": figures}, reached)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("latency", __doc__, "--rate 500 --seconds 20 --load 0 --gate")
    made.add_argument(
        "--rate", type=float, default=500, help="light load, records/s; 0: none (default: 500)"
    )
    made.add_argument("--seconds", type=float, default=20.0, help="per part (default: 20)")
    made.add_argument(
        "--warm-up", type=float, default=30.0, help="s, before the light load (default: 30)"
    )
    made.add_argument(
        "--load", type=float, default=0.8, help="share of the drain rate; 0: none (default: 0.8)"
    )
    made.add_argument(
        "--records", type=int, default=300_000, help="to find the drain rate (default: 300,000)"
    )
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
