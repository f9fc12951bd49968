"""``pipeline limit add|list|remove``: how many records of a tenant the endpoint takes."""

from __future__ import annotations

import argparse
import re

from pipeline.cli.parsers import add_wish
from pipeline.cli.wishes import LIVE, act, add_actions, story, tell, tell_all
from pipeline.config.model import Config
from pipeline.contracts.rule import shown
from pipeline.contracts.wish import RateLimit
from pipeline.errors import UsageError
from pipeline.operate import control
from pipeline.operate.cluster import Cluster
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
    add_actions(parser, "limit", SUMMARIES, EXAMPLES, _add_options)


def _add_options(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "add":
        parser.add_argument("--tenant", required=True, help="whose records")
        parser.add_argument(
            "--rate", required=True, type=rate, help="records per second, minute or hour: 100/s"
        )
        add_wish(parser)
    elif action == "remove":
        parser.add_argument("id", nargs="?", metavar="LIMIT", help="which: as list shows it")
        parser.add_argument("--tenant", help="the limit of this tenant")


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
    """Run one of the three commands and return the exit code; see `act`."""
    return act(args, {"add": _add, "list": _list, "remove": _remove})


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
