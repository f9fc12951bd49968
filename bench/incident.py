"""What does one hot parent row take from everybody else, without lanes and with them?

The incident of the talk that the pipeline comes from: one customer's records, 96 % of all, belong to one
parent row. Each record has two ordering keys, its own and its parent's, so those of one parent are applied
one after another; and each of the hot parent's takes milliseconds. More of them come than go. Everybody
shares one partition, as customers of one database server did.

Ways, one after the other, each with the declared sink (a trigger on the table links, and is slow) and with a
handler (which links, and is slow):

calm    the others alone: what they have without the hot tenant
no lanes  one memory for all that waits, and no lanes (``max_buffered_per_tenant`` beyond what it can hold)
lanes   as delivered

The producers keep to a schedule, whatever becomes of the records. Each row has the time when it was due, and
Postgres keeps the time of its commit: so the age of each record at its commit, and how long the oldest one
had waited at any moment (the time lag), are known without anybody's gauges. After --seconds the hot tenant
stops, its parent becomes as quick as any, and everything is waited for. In the end every row is there, once.

Goals: with lanes the others' p99 age at commit is at most 1.5 times what it is in calm, or within 50 ms of
that, from the hot tenant's first record on; and so is the p99 of their time lag from when there is a lane on:
before, whoever shares a transaction with hot records waits for them. Without lanes the p99 of their time lag
is at least 10 times what it is in calm, or this is not the incident.

Without --json, the page docs/design/sharding.md gets the table and the picture.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from bench.harness import incident_report, load, usage
from bench.harness.drain import Job, servers
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.incident_figures import Look, figures
from bench.harness.live import Live
from bench.harness.paced import Produced
from bench.harness.question import Answer, answer, parser
from bench.harness.sampling import sampling, sessions
from bench.harness.scraping import series
from bench.pictures.draw import draw
from bench.subjects.programs import pipeline
from pipeline.local import LocalError, Servers
from pipeline.local.ports import HOST, free_port
from pipeline.local.process import Process

CALM, CAP, LANES = "calm", "no lanes", "lanes"
WAYS = (CALM, CAP, LANES)
NEVER = 10**9
"""Records of a tenant that may wait: more than fit into memory, so that none ever gets a lane."""

HOT = "app-hot"
HOT_FIRST = 10**9
"""The first id of the hot tenant's records; those of the others begin at 0."""
SHARE = 0.96

WARM_UP_SECONDS = 5.0
BEFORE_SECONDS = 10.0
DRAIN_SECONDS = 300.0
EVERY_SECONDS = 0.5

SLOWER = 1.5
LATER = 0.05
"""Seconds: by how much p99 may grow where it is only a few ms."""
HARMED = 10.0

RECORDS = {"key": ["id", "app_id"], "tenant": "app_id"}
TABLES = (
    load.TABLE,
    "create table parents (app text primary key, total bigint not null default 0)",
    "create table slow (app text primary key, ms float8 not null)",
    "insert into parents select 'app-' || n from generate_series(0, 63) n",
    f"insert into parents values ('{HOT}')",
)
LINK = """\
create function link() returns trigger language plpgsql as $$
declare spent float8;
begin
    update parents set total = total + more
    from (select app_id, count(*) as more from fresh group by app_id) fresh where app = app_id;
    select sum(ms) into spent from fresh join slow on app = app_id;
    if spent > 0 then perform pg_sleep(spent / 1000); end if;
    return null;
end $$"""
TRIGGER = """\
create trigger linked after insert on sessions referencing new table as fresh
for each statement execute function link()"""
COMMITTED = f"""\
select extract(epoch from last_seen)::float8 as due,
       extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as visible
from sessions where id < {HOT_FIRST}"""
OPENED = "select extract(epoch from min(opened_at))::float8 from pipeline.lanes"
CHECK = """\
select count(*) as rows, coalesce(sum(session_count), 0)::bigint as applied,
       (select sum(total) from parents)::bigint as linked
from sessions"""


@attrs.frozen
class Kind:
    """What applies the records.

    Attributes:
        sink: the table ``[sink]``.
        ms: what a record of the hot parent takes.
        statements: what else the database needs.
    """

    sink: Mapping[str, Any]
    ms: float
    statements: Sequence[str] = ()


KINDS = {
    "declared sink": Kind(load.SINK, 1.0, (LINK, TRIGGER)),
    "handler": Kind({"handler": "bench.subjects.linking:apply", "scope": "batch"}, 5.0),
}


def commands(job: Job, kind: Kind, way: str, listen: str) -> list[list[str]]:
    """Return the command of an instance."""
    return pipeline(
        job,
        records=RECORDS,
        sink=kind.sink,
        limits={"max_buffered_per_tenant": NEVER} if way == CAP else {},
        http={"listen": listen},
    )


def measure_way(
    started: Servers, kind: Kind, way: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure a way; return figures and series.

    Raises:
        DrainFailed: a program failed, or something was not applied in time.
    """
    listen = f"{HOST}:{free_port()}"
    with Live.open(
        started, partial(commands, kind=kind, way=way, listen=listen), partitions=1, table=TABLES[0]
    ) as live:
        for statement in (*TABLES[1:], *kind.statements):
            live.query(statement)
        live.query(f"insert into slow values ('{HOT}', {kind.ms})")
        instance = live.instance()
        others = live.producer(options.rate * (1 - SHARE))
        live.until(lambda: bool(live.query("select from sessions limit 1")), "a first row")
        time.sleep(WARM_UP_SECONDS)
        with sampling(live.job.dsn, _look(started, instance, listen), EVERY_SECONDS) as looks:
            began = time.time()
            time.sleep(BEFORE_SECONDS)
            span, hot = _hot_span(live, way, options)
            live.query("delete from slow")
            expected = 0 if hot is None else hot.records
            rows = f"select count(*) from sessions where id >= {HOT_FIRST}"
            live.until(lambda: live.query(rows)[0][0] >= expected, "the rows", DRAIN_SECONDS)
            time.sleep(BEFORE_SECONDS / 2)
            others.stop()
            produced = live.produced(others).records + expected
            live.until(lambda: live.query(CHECK)[0]["rows"] >= produced, "all rows", DRAIN_SECONDS)
        (check,) = live.query(CHECK)
        spans = [(row["due"], row["visible"]) for row in live.query(COMMITTED)]
    wrong = sum(abs(check[name] - produced) for name in ("rows", "applied", "linked"))
    return {"wrong": wrong, "records": produced, **figures(spans, looks, began, span)}


def _hot_span(
    live: Live, way: str, options: argparse.Namespace
) -> tuple[tuple[float, float], Produced | None]:
    """Let the hot tenant produce, in calm nobody; return from when to when, and what it did."""
    if way == CALM:
        start = time.time()
        time.sleep(options.seconds)
        return (start, time.time()), None
    rate, limit = options.rate * SHARE, options.seconds
    producer = live.producer(rate, seconds=limit, app=HOT, first=HOT_FIRST)
    produced = live.produced(producer, options.seconds + 60.0)
    return (produced.started, produced.ended), produced


def _look(started: Servers, instance: Process, listen: str) -> Any:
    postgres = started.postgres.process
    if postgres is None:
        raise LocalError("the benches measure servers that they started: unset the DSN")

    async def gauge(name: str) -> float | None:
        found = await asyncio.to_thread(series, listen, f"pipeline_{name}")
        return sum(found.values()) if found else None

    async def look(connection: Any) -> Look:
        return Look(
            cpu=usage.cpu_seconds(usage.tree([instance.guard_pid])),
            postgres_cpu=usage.cpu_seconds(usage.tree([postgres.guard_pid])),
            busy=await gauge("busy_connections"),
            sessions=await sessions(connection),
            limit=await gauge("shard_limit"),
            in_lanes=await gauge("lane_records") or 0.0,
            opened=await connection.fetchval(OPENED),
        )

    return look


def goals(kinds: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """Return three goals for each kind."""
    made = []
    for kind, ways in kinds.items():
        calm, lanes = ways[CALM], ways[LANES]
        if lanes["opened"] is None:
            made.append(at_least(f"{kind}: lanes", 0, 1))
            continue
        for name, p99, usual in (
            ("age at commit", lanes["age"]["p99"], calm["age"]["p99"]),
            ("time lag", lanes["time_lag_since_opened"]["p99"], calm["time_lag"]["p99"]),
        ):
            bound = max(usual * SLOWER, usual + LATER)
            made.append(at_most(f"{kind}, lanes: p99 {name}, ms", p99 * 1e3, bound * 1e3))
        harm = ways[CAP]["time_lag"]["p99"] / calm["time_lag"]["p99"]
        made.append(at_least(f"{kind}, no lanes: p99 time lag ÷ calm", harm, HARMED))
    return made


def measure(options: argparse.Namespace) -> Answer:
    """Measure every way of every kind.

    Raises:
        DrainFailed, LocalError: a program failed.
    """
    found: dict[str, dict[str, Any]] = {kind: {} for kind in options.kinds}
    with servers() as started:
        for kind, ways in found.items():
            for way in WAYS:
                ways[way] = measure_way(started, KINDS[kind], way, options)
                print(incident_report.line(kind, way, ways[way]), flush=True)
    wrong = sum(run["wrong"] for ways in found.values() for run in ways.values())
    return Answer({"kinds": found}, goals(found), wrong)


def report(file: Path) -> None:
    """Draw the picture beside a file of results, and write the tables."""
    draw("incident", file, file.with_suffix(".svg"))
    incident_report.write(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("incident", __doc__, "--rate 2500 --seconds 40 --gate")
    made.set_defaults(json=incident_report.RESULTS)
    made.add_argument(
        "--rate", type=float, default=2500.0, help="of all, records/s (default: 2500)"
    )
    made.add_argument(
        "--seconds", type=float, default=40.0, help="the hot tenant produces (default: 40)"
    )
    made.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND",
        help=f"some of them: {', '.join(KINDS)}",
    )  # fmt: skip
    return answer(made.parse_args(arguments), measure, report)


if __name__ == "__main__":
    sys.exit(main())
