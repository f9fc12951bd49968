"""From produced to visible in Postgres: how long a record takes, as its users see it.

A producer in a process of its own writes records at a fixed rate, each with an id of its own and the
time when it was due in it. When a record was committed is Postgres's to say (``track_commit_timestamp``;
everything is on one machine and has one clock), so nothing polls the table meanwhile. Postgres takes
that time just before it flushes the WAL, and others see the row only after it: the mean flush, as
``pg_stat_io`` has it, is added to every figure. What the producer takes counts too: its linger, and
any delay. What comes in the first half minute after the first row is left out: the instance starts, and
a fresh broker runs uncompiled and takes four times the CPU.

Twice: at a light load, and at a share of what one instance drains from a backlog of the same records.
There the producer competes for the same cores; what it takes is printed. Where so much can't be held
beside it, that is said, and the same share of the rate that was held is measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import attrs

from bench.harness.drain import PARTITIONS, DrainFailed, Topic, drain, servers
from bench.harness.figures import Spread
from bench.harness.live import Live
from bench.harness.machine import machine
from bench.harness.paced import Produced
from bench.subjects.programs import pipeline
from pipeline.local import Servers

EXAMPLE = "example: python -m bench.latency --rate 500 --seconds 20 --load 0"
SETTLING_SECONDS = 5.0
"""The warm-up under load, when the broker has served the backlog."""
LINGER_SECONDS = 0.005
"""The default of Kafka's own producer, since 4.0."""
HELD = 0.99
"""The share of a rate that must be committed in the time that it was produced in."""

LIGHT_GOALS = {"p50": 8.0, "p99": 30.0}
LOADED_GOALS = {"p99": 250.0}
"""In milliseconds."""

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
    """One record. ``due`` and ``committed`` in seconds since the epoch, ``late`` in seconds."""

    due: float
    committed: float
    late: float
    """How long after it was due the producer had made it."""


@attrs.frozen
class Measured:
    """One run. Times in ms."""

    asked: float
    """Records a second."""
    produced: float
    """Records a second, by the producer's own account."""
    held: float
    """Records a second that were committed while the producer ran."""
    producer_cpu: float
    """As a share of a core."""
    flush: float
    """The mean flush of the WAL."""
    visible: Spread
    before_kafka: Spread


def committed_within(samples: list[Sample], start: float, end: float) -> float:
    """How many of the records due in a time were committed in it, as a share."""
    due = [sample for sample in samples if start <= sample.due < end]
    return sum(sample.committed <= end for sample in due) / len(due) if due else 0.0


def measure(servers: Servers, rate: float, seconds: float, warm_up: float) -> Measured:
    """Produce for so long beside an instance, and read what became of it after the warm-up."""
    with Live(servers, PARTITIONS) as live:
        live.instance()
        producer = live.producer(rate, seconds=warm_up + seconds, linger=LINGER_SECONDS)
        live.until(lambda: bool(live.query("select from sessions limit 1")), "a first row")
        (before,) = live.query(FLUSHES)
        produced = live.produced(producer)
        count = "select count(*) from sessions"
        live.until(lambda: live.query(count)[0][0] == produced.records, "all rows")
        (after,) = live.query(FLUSHES)
        samples = [Sample(*row) for row in live.query(COMMITTED)]
    flushes = after["flushes"] - before["flushes"]
    flush = (after["milliseconds"] - before["milliseconds"]) / flushes if flushes else 0.0
    start = min(sample.committed for sample in samples) + warm_up
    return figures(samples, start, rate, produced, flush)


def figures(
    samples: list[Sample], start: float, rate: float, produced: Produced, flush: float
) -> Measured:
    """The figures of what was due from ``start`` on; ``flush`` in ms."""
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
    """How many of the same records a second one instance drains from a backlog."""
    with Live(servers, PARTITIONS) as live:
        produced = live.produced(live.producer(0, records=records))
        expected: dict[int, tuple[Any, ...]] = {n: (1, n) for n in range(produced.records)}
        run = drain(servers, Topic(live.topic, records, expected), "pipeline", pipeline)
    if run.wrong:
        raise DrainFailed(f"{run.wrong} rows differ from what was produced")
    return run.rate


def show(measured: Measured, goals: Mapping[str, float]) -> bool:
    """Print a run; whether the goals are met."""
    print(f"  {'ms':<26}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    for name, spread in (
        ("produced → visible", measured.visible),
        ("of it before Kafka", measured.before_kafka),
    ):
        shown = (spread.p50, spread.p90, spread.p99, spread.highest)
        print(f"  {name:<26}" + "".join(f"{figure:>9.1f}" for figure in shown))
    print(
        f"  {measured.visible.count:,} records; a flush of {measured.flush:.1f} ms in each; the producer "
        f"takes {measured.producer_cpu:.0%} of a core"
    )
    if not goals:
        return True
    found = {name: getattr(measured.visible, name) for name in goals}
    met = all(found[name] <= goal for name, goal in goals.items())
    wanted = ", ".join(f"{name} ≤ {goal:.0f} ms" for name, goal in goals.items())
    print(f"  goal {wanted}: {'met' if met else 'MISSED'}", flush=True)
    return met


def light(servers: Servers, options: argparse.Namespace) -> bool:
    """The first part."""
    print(f"{options.rate:,.0f} records/s", flush=True)
    measured = measure(servers, options.rate, options.seconds, options.warm_up)
    return show(measured, LIGHT_GOALS)


def loaded(servers: Servers, options: argparse.Namespace) -> bool:
    """The second part."""
    drained = drain_rate(servers, options.records)
    rate = drained * options.load
    print(
        f"{options.load:.0%} of the {drained:,.0f} records/s that one instance drains", flush=True
    )
    measured = measure(servers, rate, options.seconds, SETTLING_SECONDS)
    if measured.held >= HELD * rate:
        return show(measured, LOADED_GOALS)
    show(measured, {})
    print(
        f"  {rate:,.0f} records/s can't be held on this machine with the producer beside it: "
        f"{measured.produced:,.0f} were produced, {measured.held:,.0f} committed meanwhile"
    )
    rate = measured.held * options.load
    print(f"{options.load:.0%} of that, {rate:,.0f} records/s", flush=True)
    return show(measure(servers, rate, options.seconds, SETTLING_SECONDS), LOADED_GOALS)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 with ``--gate`` where a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.latency", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rate", type=float, default=500, help="light load, records/s; 0: none")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each part (default: 20)")
    parser.add_argument("--warm-up", type=float, default=30.0, help="before it, s (default: 30)")
    parser.add_argument("--load", type=float, default=0.8, help="share of the drain rate; 0: none")
    parser.add_argument("--records", type=int, default=300_000, help="to find the drain rate")
    parser.add_argument("--gate", action="store_true", help="exit 1 where a goal is missed")
    options = parser.parse_args(arguments)
    met = True
    print(f"{machine()['cores']} cores, shared by Kafka, Postgres, producer and instance")
    try:
        with servers() as started:
            if options.rate:
                met = light(started, options) and met
            if options.load:
                met = loaded(started, options) and met
    except DrainFailed as problem:
        print(problem, file=sys.stderr)
        return 1
    return int(options.gate and not met)


if __name__ == "__main__":
    sys.exit(main())
