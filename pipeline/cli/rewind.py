"""``pipeline rewind``: a deliberate replay, or skip."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

from pipeline.cli.common import with_config
from pipeline.cli.parsers import add_config
from pipeline.config.model import Config
from pipeline.operate import rewind
from pipeline.operate.cluster import open_cluster
from pipeline.operate.console import confirmed
from pipeline.operate.rewind_targets import Target, choose_partitions, parse_target
from pipeline.operate.views import rewind_json, rewind_lines

EPILOG = """\
Moves two things together: the offsets at which the consumer group goes on, and
what the ledger in each database says is applied. Going back, records are
applied again; going forward, they are skipped. Works only while no instance
runs; shows what will change, and asks. If it was interrupted, finish it with
--to committed.

where to:
  1200               an offset (of one partition: see --partition)
  2026-05-01T12:00   the first record from then on; UTC unless +02:00 is given
  2h                 the first record from two hours ago on (s, m, h or d)
  earliest, latest   the ends of the log
  committed          the offset that the group has: the ledger follows it

with --json, on one line:
  {"group": "...", "done": true,
   "partitions": [{"topic": "...", "partition": 0, "from": 100, "to": 80,
                   "applied_again": 20, "skipped": 0, "shard": "..."}, ...]}

exit codes:
  0  done, or there was nothing to change
  1  not done: an instance runs, a server does not answer, or the answer was no
  2  a mistake in what was given

example:
  pipeline rewind --config sessions.toml --to 2h
  pipeline rewind --config sessions.toml --to 1200 --partition 3 --yes
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser)
    parser.add_argument(
        "--to",
        required=True,
        metavar="WHERE",
        help="an offset, a time, an age, or a word: see below",
    )
    parser.add_argument("--topic", help="only this topic (default: all of the configuration)")
    parser.add_argument("--partition", type=int, metavar="N", help="only this partition")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument(
        "--json", action="store_true", help="print JSON; without --yes nothing is changed"
    )
    parser.epilog = EPILOG


def main(args: argparse.Namespace) -> int:
    """Plan, ask, carry out, and return the exit code."""
    try:
        target = parse_target(args.to)
    except ValueError as error:
        print(f"pipeline rewind: --to {error}", file=sys.stderr)
        return 2
    return with_config(args.config, partial(_rewind, target=target, args=args))


def _rewind(config: Config, *, target: Target, args: argparse.Namespace) -> int:
    with open_cluster(config) as cluster:
        sources = choose_partitions(cluster, config, args.topic, args.partition)
        plan = rewind.prepare(cluster, config, target, sources)
        if args.json:
            if args.yes:
                rewind.carry_out(cluster, config, plan, lambda _: None, _warn)
            print(json.dumps(rewind_json(config, plan.moves, done=args.yes)))
            return 0
        print("\n".join(rewind_lines(config, plan.moves)))
        if not confirmed("Go on?", args.yes):
            print("nothing was changed")
            return 1
        rewind.carry_out(cluster, config, plan, partial(print, flush=True), _warn)
    print("done: instances may be started")
    return 0


def _warn(text: str) -> None:
    print(f"pipeline: {text}", file=sys.stderr)
