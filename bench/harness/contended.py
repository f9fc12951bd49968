"""Drain a filled topic, and count what its transactions do to each other in Postgres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from bench.harness import load, usage
from bench.harness.drain import Commands, DrainFailed
from bench.harness.live import Live
from bench.harness.sampling import sampling, sessions, within
from pipeline.local import Servers

EVERY_SECONDS = 0.02
PATIENCE = 600.0

APPLIED = """\
select coalesce(sum(session_count), 0)::bigint as applied,
       extract(epoch from clock_timestamp())::float8 as now,
       extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 as last
from sessions"""
ROWS = "select id, session_count, (tags->>'n')::bigint as n from sessions"
WRITTEN = """\
select sum(n_tup_ins + n_tup_upd)::bigint as rows from pg_stat_user_tables where schemaname = 'public'"""
TRANSACTIONS = """\
select xact_commit as commits, deadlocks from pg_stat_database where datname = current_database()"""
OTHERS = """\
select count(*) as sessions from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()"""


@attrs.frozen
class Contended:
    """One run. Rates and CPU count the records after the first look that found some.

    Attributes:
        rate: records per second.
        cpu: of the program, µs per record.
        rows: versions of rows that were written, in all tables but the ledger's.
        deadlocks: transactions that Postgres ended.
        waiting: sessions that waited for a lock, on average.
        waiting_most: the most of them at once.
        busy: sessions with a transaction, on average.
        missing: records that were not applied, or more than once.
        stale: rows that hold an older record than the last one of their key.
    """

    records: int
    seconds: float
    rate: float
    cpu: float
    rows: int
    deadlocks: int
    waiting: float
    waiting_most: int
    busy: float
    missing: int
    stale: int


def contended(
    started: Servers,
    commands: Commands,
    source: Callable[[], load.Records],
    *,
    partitions: int,
    statements: Sequence[str] = (),
    effects: str = "",
) -> Contended:
    """Measure a program that drains a topic.

    Args:
        started: the servers.
        commands: the program, a single process of it.
        source: makes the records, the same each time.
        partitions: how many the topic has.
        statements: what the database needs beside the table ``sessions``.
        effects: a query whose first value is how many records had their effect on other tables.

    Raises:
        DrainFailed: the program failed, or has not applied everything in time.
    """
    expected = load.expected(source())
    records = sum(count for count, _ in expected.values())
    with Live.open(started, commands, partitions=partitions) as live:
        for statement in statements:
            live.query(statement)
        load.fill(live.job.bootstrap, live.job.topic, source())
        with sampling(live.job.dsn, sessions, EVERY_SECONDS) as seen:
            process = live.instance()
            before, began = _first(live)
            cpu = usage.cpu_seconds(usage.tree([process.guard_pid]))
            live.until(lambda: _applied(live)["applied"] >= records, "all records", PATIENCE)
            cpu = usage.cpu_seconds(usage.tree([process.guard_pid])) - cpu
            last = _applied(live)["last"]
        process.stop()
        live.until(lambda: live.query(OTHERS)[0]["sessions"] == 0, "its sessions end")
        (written,), (transactions,) = live.query(WRITTEN), live.query(TRANSACTIONS)
        found = {row["id"]: (row["session_count"], row["n"]) for row in live.query(ROWS)}
        affected = int(live.query(effects)[0][0]) if effects else records
    if before >= records:
        raise DrainFailed("everything was applied before the first look: more records")
    during = within(seen, began, last) or [seen[-1][1]]
    counted, newest = compared(expected, found)
    return Contended(
        records=records,
        seconds=last - began,
        rate=(records - before) / (last - began),
        cpu=cpu / (records - before) * 1e6,
        rows=written["rows"],
        deadlocks=transactions["deadlocks"],
        waiting=sum(look.waiting for look in during) / len(during),
        waiting_most=max(look.waiting for look in during),
        busy=sum(look.busy for look in during) / len(during),
        missing=counted + abs(affected - records),
        stale=newest,
    )


def _applied(live: Live) -> Any:
    return live.query(APPLIED)[0]


def _first(live: Live) -> tuple[int, float]:
    """Return how many records the first look found that found any, and when that was."""
    found: list[tuple[int, float]] = []

    def look() -> bool:
        row = _applied(live)
        found[:] = [(row["applied"], row["now"])]
        return bool(row["applied"])

    live.until(look, "a first row", PATIENCE)
    return found[0]


def compared(
    expected: dict[int, tuple[Any, ...]], found: dict[int, tuple[Any, ...]]
) -> tuple[int, int]:
    """Return by how many records rows are off in all, and how many rows hold an older record."""
    keys = expected.keys() | found.keys()
    pairs = [(expected.get(key, (0, None)), found.get(key, (0, None))) for key in keys]
    off = sum(abs(wanted[0] - had[0]) for wanted, had in pairs)
    return off, sum(wanted[0] == had[0] and wanted[1] != had[1] for wanted, had in pairs)


def line(name: str, run: Contended) -> str:
    """Format a run as a line."""
    return (
        f"{name:<40} {run.rate:>9,.0f}/s  {run.rows / run.records:>6.2f} rows a record  "
        f"deadlocks {run.deadlocks:>4}  waiting for locks {run.waiting:>5.2f}, at most "
        f"{run.waiting_most}  busy {run.busy:.1f}  missing {run.missing}  stale {run.stale}"
    )
