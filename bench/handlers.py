"""How many records a second a user's own function gets through: one upsert a record, in order by key.

    upsert    one `execute` a record, as fast as it goes
    batch     the same rows as one `unnest` statement a batch (scope = "batch")
    10 ms     `trio.sleep(0.01)` and one `execute` a record, 1,000 keys: bound by connections ÷ 10 ms
    100 ms    the same with 100 ms

For the last two the figure is the share of the bound that is reached.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial

from bench.drain import Drained, Job, drain, filled, servers
from bench.programs import CONFIG
from bench.throughput import HEADER, line, rate

CONNECTIONS = 16

HANDLER = '''\
import trio
UPSERT = """insert into sessions as t (id, app_id, last_seen, session_count, tags)
values ($1, $2, $3::text::timestamptz, $4, $5::text::jsonb)
on conflict (id) do update set app_id = excluded.app_id, last_seen = excluded.last_seen,
session_count = t.session_count + excluded.session_count, tags = excluded.tags"""
MANY = UPSERT.replace("values ($1, $2, $3::text::timestamptz, $4, $5::text::jsonb)",
    "select u.a, u.b, u.c::timestamptz, u.d, u.e::jsonb "
    "from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[]) u(a, b, c, d, e)")
def row(record):
    d = record.document
    return d["id"], d["app_id"], d["last_seen"], d["session_count"], '{"n":%d}' % d["tags"]["n"]
async def upsert(tx, records):
    for record in records:
        await tx.execute(UPSERT, *row(record))
async def batch(tx, records):
    rows = {}
    for a, b, c, d, e in map(row, records):
        rows[a] = (a, b, c, d + (rows[a][3] if a in rows else 0), e)
    await tx.execute(MANY, *map(list, zip(*(rows[key] for key in sorted(rows)))))
async def slow(tx, records):
    for record in records:
        await trio.sleep(SECONDS)
        await tx.execute(UPSERT, *row(record))
'''


def handled(job: Job, *, name: str, scope: str = "key", seconds: float = 0.0) -> list[list[str]]:
    """``pipeline run`` with a handler that lies beside its configuration."""
    (job.directory / "handlers.py").write_text(HANDLER + f"SECONDS = {seconds}\n")
    sink = f'[sink]\nhandler = "handlers:{name}"\nscope = "{scope}"\n'
    text = CONFIG.format(job=job, sink=sink)
    file = job.directory / "pipeline.toml"
    file.write_text(text.replace("[http]", f"connections = {CONNECTIONS}\n\n[http]"))
    run = f"import os, sys; os.chdir({str(job.directory)!r}); from pipeline.cli import main; "
    run += f"sys.exit(main(['run', '--config', {str(file)!r}, '--log-level', 'warning']))"
    return [[sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {run}"]]


def main() -> int:
    """Run and print; 1 where a row is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.handlers", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measured: list[Drained] = []
    with servers() as started:
        large = filled(started, options.records, 100_000, 1)
        print(HEADER)
        for name, scope in (("upsert", "key"), ("batch", "batch")):
            runs = [
                drain(started, large, name, partial(handled, name=name, scope=scope))
                for _ in range(options.rounds)
            ]
            measured += shown(runs)
        for seconds, records in ((0.01, 8_000), (0.1, 1_600)):
            small = filled(started, records, 1_000, 1)
            bound = CONNECTIONS / seconds
            runs = shown(
                [
                    drain(
                        started,
                        small,
                        f"{seconds} s",
                        partial(handled, name="slow", seconds=seconds),
                    )
                ]
            )
            print(f"{seconds * 1000:.0f} ms a record: {rate(runs) / bound:.2f} of {bound:,.0f}/s")
            measured += runs
    return int(any(run.wrong for run in measured))


def shown(runs: list[Drained]) -> list[Drained]:
    """The runs, printed, and their median."""
    for run in runs:
        print(line(run), flush=True)
    print(f"median {statistics.median(run.rate for run in runs):,.0f} records/s")
    return runs


if __name__ == "__main__":
    sys.exit(main())
