"""``pipeline top``: the whole group on a terminal, with the dashboard's numbers."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from functools import partial

import trio
from rich.console import Console

from pipeline.cli.common import explaining
from pipeline.cli.parsers import add_config
from pipeline.config.load import load
from pipeline.config.model import Config
from pipeline.top.asking import Address, address_of, ask
from pipeline.top.picture import picture
from pipeline.top.screen import show

COLUMNS = 80

EPILOG = """\
Any instance knows the whole group, so one is asked: the one at [http] listen of
the configuration, or at --url. While none runs, pipeline lag measures from
Kafka alone; while one does, both tell the same.

Keys: p, o, s, l, t, b sort by partition, owner, state, lag, time lag, buffered
records; the same key again reverses; q quits. Where standard output is no
terminal, or with --once, the tables are printed once.

with --json, on one line, what the dashboard's /api/state says; among it:
  {"name": "...", "group": "...",
   "scope": "group",          or "instance": only the one that was asked, and
   "note": "",                why
   "rate": 120.0, "message_lag": 20, "time_lag_seconds": 1.5,
   "instances": [{"owner": "...", "answers": true, "problem": "", ...}, ...],
   "partitions": [{"topic": "...", "partition": 0, "owner": "...",
                   "state": "running", "message_lag": 20, ...}, ...],
   "lanes": [{"topic": "...", "partition": 0, "records_of": "key 12",
              "reason": "hold", "state": "held", "waiting": 120,
              "hold": {"id": "...", "by": "..."}, ...}, ...],
   "tenants": [{"name": "...", "recent": 12.4, "records": 9000, ...}, ...],
   "keys": [...], "shards": [...], "pauses": [...], "holds": [...],
   "dead_letters": {"constraint": 3}}

exit codes:
  0  shown
  1  the instance does not answer
  2  a mistake in the configuration, or no address to ask

example:
  pipeline top --config sessions.toml
  pipeline top --url http://10.0.0.7:9187 --config sessions.toml --once
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser, required=False)
    parser.add_argument(
        "--url", metavar="URL",
        help="the instance to ask, such as http://127.0.0.1:9187; a token is taken from the"
        " configuration",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="print the tables once")
    parser.add_argument("--json", action="store_true", help="print JSON once instead of tables")
    parser.epilog = EPILOG


def main(args: argparse.Namespace) -> int:
    """Show the group until it is quit, or once; return the exit code."""
    if args.config is None and args.url is None:
        print(
            "pipeline: name a configuration with --config, or an instance with --url",
            file=sys.stderr,
        )
        return 2
    return explaining(partial(_run, args))


def _run(args: argparse.Namespace) -> int:
    config: Config | None = None if args.config is None else load(args.config)
    address = address_of(args.url, config)
    live = sys.stdout.isatty() and sys.stdin.isatty() and not (args.once or args.json)
    with suppress(KeyboardInterrupt):  # as q: that is how people leave
        if live:
            trio.run(show, partial(ask, address), Console(highlight=False), sys.stdin.fileno())
        else:
            _print_once(address, as_json=args.json)
    return 0


def _print_once(address: Address, *, as_json: bool) -> None:
    state = trio.run(ask, address)
    if as_json:
        print(json.dumps(state))
        return
    width = None if sys.stdout.isatty() else COLUMNS
    Console(highlight=False, width=width).print(picture(state))
