"""``pipeline limit add|list|remove``: how many records of a tenant the endpoint takes."""

from __future__ import annotations

import argparse
import re
from functools import partial

from pipeline.cli.common import with_config
from pipeline.cli.parsers import add_command, add_config, add_wish
from pipeline.cli.wishes import LIVE, story, tell, tell_all
from pipeline.config.model import Config
from pipeline.contracts.rule import shown
from pipeline.contracts.wish import RateLimit
from pipeline.errors import UsageError
from pipeline.operate import control
from pipeline.operate.cluster import Cluster, open_cluster
from pipeline.operate.refusals import tenant_of
from pipeline.operate.wish_views import limit_lines

SUMMARIES = {
    "add": "limit the rate of a tenant, or change its limit",
    "list": "list the limits",
    "remove": "remove a limit",
}

EXAMPLES = {
    "add": """\
A tenant that has a limit already gets this one instead, without a gap. A rate
of 0/s takes nothing of the tenant.

example:
  pipeline limit add --tenant app-7 --rate 100/s --config sessions.toml
  pipeline limit add --tenant app-7 --rate 600/m --for 1h --config sessions.toml
""",
    "list": """\
with --json, on one line:
  {"group": "...", "topic": "...", "limits": [{"id": "l1f3a", "tenant": "app-7",
   "rate": 100.0, "by": "ada@host", "since": 1777636800000, "until": null,
   "why": "..."}]}
the rate is in records per second; times are in ms since 1970.

example:
  pipeline limit list --config sessions.toml
""",
    "remove": """\
example:
  pipeline limit remove l1f3a --config sessions.toml
  pipeline limit remove --tenant app-7 --config sessions.toml
""",
}

SECONDS = {"s": 1, "m": 60, "h": 3600}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the three commands."""
    commands = parser.add_subparsers(dest="action", metavar="add|list|remove", required=True)
    for name, summary in SUMMARIES.items():
        sub = add_command(commands, name, summary, EXAMPLES[name])
        add_config(sub)
        if name == "list":
            sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
        elif name == "add":
            sub.add_argument("--tenant", required=True, help="whose records")
            sub.add_argument(
                "--rate", required=True, type=rate, help="records per second, minute or hour: 100/s"
            )
            add_wish(sub)
        else:
            sub.add_argument("id", nargs="?", metavar="LIMIT", help="which: as list shows it")
            sub.add_argument("--tenant", help="the limit of this tenant")
            sub.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.epilog = (
        "example:\n  pipeline limit list --config sessions.toml\n\n"
        "each command explains itself: pipeline limit add --help"
    )


def rate(text: str) -> float:
    """Return the records per second of a rate such as ``100/s``.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)/([smh])", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a rate such as 100/s, 600/m or 10/h")
    return float(match[1]) / SECONDS[match[2]]


def main(args: argparse.Namespace) -> int:
    """Run one of the three commands and return the exit code.

    The code is 1 if Kafka fails, and 2 if the configuration or what was given has a mistake.
    """
    return with_config(args.config, partial(_run, args=args))


def _run(config: Config, *, args: argparse.Namespace) -> int:
    actions = {"add": _add, "list": _list, "remove": _remove}
    with open_cluster(config) as cluster:
        return actions[args.action](config, cluster, control.read(cluster), args)


def _add(config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace) -> int:
    tenant = tenant_of(config, args.tenant)
    former = next((each for each in known.of(RateLimit) if each.tenant == tenant), None)
    limit_id = control.new_id(known, RateLimit) if former is None else former.id
    limit = RateLimit(id=limit_id, tenant=tenant, rate=args.rate, **story(args))
    control.keep(cluster, known, limit)
    was = "" if former is None else f" (it was {former.rate:g}/s)"
    told = f"limit {limit.id}: tenant {shown(tenant)} may send {limit.rate:g}/s{was}; {LIVE}"
    tell(limit, args.json, told)
    return 0


def _list(config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace) -> int:
    del cluster
    tell_all(config, "limits", known.of(RateLimit), known, limit_lines, args.json)
    return 0


def _remove(
    config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace
) -> int:
    if (args.id is None) == (args.tenant is None):
        raise UsageError("say which limit: its id, or --tenant")
    if args.id is not None:
        limit = known.find(RateLimit, args.id)
    else:
        tenant = tenant_of(config, args.tenant)
        found = [each for each in known.of(RateLimit) if each.tenant == tenant]
        if not found:
            raise UsageError(f"tenant {shown(tenant)} has no limit: see pipeline limit list")
        limit = found[0]
    control.take_back(cluster, limit)
    tell(limit, args.json, f"limit {limit.id} of tenant {shown(limit.tenant)} is removed")
    return 0
