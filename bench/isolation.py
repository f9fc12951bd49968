"""What does one broken database of four take away from the other three, and how soon is it back?

A producer writes records at a steady rate to four partitions, each of which belongs to a database of
its own. One database after the other way is broken and mended again:

dead     its address refuses connections
slow     every round trip takes 200 ms longer
renamed  a column of its table has another name
revoked  the right to write its table is taken away

Each row has the time when it was due, and Postgres keeps the time of its commit. So throughput and age
at the commit of the other three are known before and meanwhile, and the first commit after the mending
says when work went on. In the end every row is there, once.

Goals: meanwhile the other three have at least 0.95 of their throughput, and their p99 is at most 1.5 times
what it was, or within 50 ms of it; work goes on within 2 seconds of the mending.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import attrs

from bench.harness import load
from bench.harness.drain import DrainFailed, Job, servers
from bench.harness.figures import percentile
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.live import Live
from bench.harness.question import Answer, answer, parser
from bench.subjects.programs import pipeline
from pipeline.local import Servers
from pipeline.local.postgres import psql
from tests.support.proxy import Proxy

SHARDS = 4
BROKEN = 0
"""The database that is broken; the others are watched."""
WORKER = "isolation_worker"

KEPT = 0.95
SLOWER = 1.5
LATER = 0.05
"""Seconds: by how much p99 may grow where it is only a few ms."""
BACK_SECONDS = 2.0
SETTLING_SECONDS = 4.0

COMMITTED = """\
select extract(epoch from last_seen)::float8 as due,
       extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as committed
from sessions where last_seen >= to_timestamp($1) and last_seen < to_timestamp($2)"""
FIRST_COMMIT = """\
select extract(epoch from min(pg_xact_commit_timestamp(xmin)))::float8 as first from sessions
where pg_xact_commit_timestamp(xmin) > to_timestamp($1)"""
APPLIED = (
    "select count(*) as rows, coalesce(sum(session_count), 0)::bigint as applied from sessions"
)
GRANTS = (
    f"grant all on all tables in schema public to {WORKER}",
    f"grant create on database {{name}} to {WORKER}",
)


@attrs.frozen
class Shard:
    """One database, and the proxy before it.

    Attributes:
        dsn: past the proxy, as the owner.
        proxy: what the instance connects through.
    """

    dsn: str
    proxy: Proxy

    @property
    def through(self) -> str:
        """The DSN that the instance is given."""
        parts = urlsplit(self.dsn)
        return urlunsplit(parts._replace(netloc=f"{WORKER}@127.0.0.1:{self.proxy.port}"))

    def query(self, statement: str, *arguments: object) -> list[Any]:
        """Return a statement's rows."""
        return asyncio.run(_fetched(self.dsn, statement, arguments))


async def _fetched(dsn: str, statement: str, arguments: Sequence[object]) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


@attrs.frozen
class Fault:
    """What breaks a database, what mends it, and whether work stops in between."""

    breaks: Callable[[Shard], object]
    mends: Callable[[Shard], object]
    stops: bool = True


FAULTS: Mapping[str, Fault] = {
    "dead": Fault(lambda shard: shard.proxy.refuse(), lambda shard: shard.proxy.accept()),
    "slow": Fault(
        lambda shard: shard.proxy.delay(0.1), lambda shard: shard.proxy.delay(0), stops=False
    ),
    "renamed": Fault(
        lambda shard: shard.query("alter table sessions rename column tags to labels"),
        lambda shard: shard.query("alter table sessions rename column labels to tags"),
    ),
    "revoked": Fault(
        lambda shard: shard.query(f"revoke all on sessions from {WORKER}"),
        lambda shard: shard.query(f"grant all on sessions to {WORKER}"),
    ),
}


@attrs.frozen
class Others:
    """The three that are not broken: records per second, and seconds from due to committed."""

    rate: float
    p50: float
    p99: float

    @classmethod
    def between(cls, shards: Sequence[Shard], start: float, end: float) -> Others:
        """Read what was due in a span of time (since the epoch)."""
        ages = sorted(
            row["committed"] - row["due"]
            for shard in shards
            for row in shard.query(COMMITTED, start, end)
            if row["committed"] < end
        )
        if not ages:
            raise DrainFailed("nothing was applied to the databases that work")
        return cls(len(ages) / (end - start), percentile(ages, 0.5), percentile(ages, 0.99))


@contextmanager
def shards(started: Servers) -> Iterator[list[Shard]]:
    """Make the databases, each with its table and its proxy."""
    with ExitStack() as stack:
        made: list[Shard] = []
        psql(started.dsn, f"create role {WORKER} login")
        stack.callback(psql, started.dsn, f"drop role {WORKER}")
        for _ in range(SHARDS):
            name = f"isolation_{uuid4().hex[:8]}"
            dsn = started.create_database(name)
            stack.callback(started.drop_database, name)
            proxy = stack.enter_context(Proxy(urlsplit(dsn).port or 5432))
            shard = Shard(dsn, proxy)
            for statement in (load.TABLE, *GRANTS):
                shard.query(statement.format(name=name))
            made.append(shard)
        yield made


def commands(made: Sequence[Shard], job: Job) -> list[list[str]]:
    """Return the command of an instance with all four databases."""
    return pipeline(
        attrs.evolve(job, shards=tuple(shard.through for shard in made), partitions=SHARDS)
    )


def measure_fault(made: Sequence[Shard], name: str, seconds: float, live: Live) -> dict[str, Any]:
    """Break one database and mend it; what the others had, and when it was back."""
    fault, broken = FAULTS[name], made[BROKEN]
    others = [shard for shard in made if shard is not broken]
    begin = time.time()
    time.sleep(seconds)
    broke = time.time()
    fault.breaks(broken)
    time.sleep(seconds)
    mended = time.time()
    fault.mends(broken)
    back: list[float] = []

    def is_back() -> bool:
        (row,) = broken.query(FIRST_COMMIT, mended)
        back[:] = [] if row["first"] is None else [row["first"] - mended]
        return bool(back)

    live.until(is_back, f"the {name} database goes on")
    time.sleep(SETTLING_SECONDS)  # it catches up
    before, meanwhile = Others.between(others, begin, broke), Others.between(others, broke, mended)
    print(
        f"{name:<8} the others: {before.rate:,.0f}/s then {meanwhile.rate:,.0f}/s, "
        f"p99 {before.p99 * 1e3:.0f} ms then {meanwhile.p99 * 1e3:.0f} ms; "
        + (f"back after {back[0]:.2f} s" if fault.stops else "it never stopped"),
        flush=True,
    )
    return {
        "before": attrs.asdict(before),
        "meanwhile": attrs.asdict(meanwhile),
        "back_after_seconds": back[0] if fault.stops else None,
    }


def goals(found: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """Return three goals for each fault."""
    made = []
    for name, figures in found.items():
        before, meanwhile = figures["before"], figures["meanwhile"]
        made.append(
            at_least(f"{name}: throughput of the others", meanwhile["rate"] / before["rate"], KEPT)
        )
        bound = max(before["p99"] * SLOWER, before["p99"] + LATER)
        made.append(at_most(f"{name}: p99 of the others, ms", meanwhile["p99"] * 1e3, bound * 1e3))
        if figures["back_after_seconds"] is not None:
            made.append(
                at_most(f"{name}: back after, s", figures["back_after_seconds"], BACK_SECONDS)
            )
    return made


def measure(options: argparse.Namespace) -> Answer:
    """Measure every fault, one after the other.

    Raises:
        DrainFailed: a program failed.
    """
    found = {}
    with (
        servers() as started,
        shards(started) as made,
        Live.open(started, partial(commands, made), partitions=SHARDS) as live,
    ):
        live.instance()
        producer = live.producer(options.rate)
        live.until(
            lambda: all(shard.query("select from sessions limit 1") for shard in made), "rows"
        )
        time.sleep(SETTLING_SECONDS)
        for name in FAULTS:
            found[name] = measure_fault(made, name, options.seconds, live)
        producer.stop()
        produced = live.produced(producer).records
        rows = partial(_rows, made)
        live.until(lambda: sum(count for count, _ in rows()) >= produced, "every row")
        wrong = abs(sum(count for count, _ in rows()) - produced)
        wrong += sum(applied - count for count, applied in rows())
    return Answer({"faults": found, "produced": produced}, goals(found), wrong)


def _rows(made: Sequence[Shard]) -> list[tuple[int, int]]:
    found = [row for shard in made for row in shard.query(APPLIED)]
    return [(row["rows"], row["applied"]) for row in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("isolation", __doc__, "--rate 2000 --seconds 8 --gate")
    made.add_argument("--rate", type=float, default=2000.0, help="records/s (default: 2000)")
    made.add_argument(
        "--seconds", type=float, default=8.0, help="before, and while broken (default: 8)"
    )
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
