"""``pipeline pause add|list|remove``: a shard, a topic or a partition stands still."""

from __future__ import annotations

import argparse

from pipeline.cli.parsers import add_wish
from pipeline.cli.wishes import LIVE, act, add_actions, story, tell, tell_all
from pipeline.config.model import Config
from pipeline.contracts.wish import Pause
from pipeline.errors import UsageError
from pipeline.operate import control
from pipeline.operate.cluster import Cluster
from pipeline.operate.refusals import refuse_pause, scope_of
from pipeline.operate.wish_views import pause_lines

SUMMARIES = {
    "add": "let a shard, a topic or a partition stand still",
    "list": "list what is paused",
    "remove": "let it go on",
}

EXAMPLES = {
    "add": """\
What is in flight finishes, and nothing new begins. Instances stay in the group
and keep their partitions. After --for it goes on by itself.

example:
  pipeline pause add --shard db0 --for 1h --reason "..." --config sessions.toml
  pipeline pause add --partition sessions-3 --config sessions.toml
""",
    "list": """\
with --json, on one line:
  {"group": "...", "topic": "...", "pauses": [{"id": "p1f3a",
   "what": {"shard": "db0"}, "by": "ada@host", "since": 1777636800000,
   "until": null, "why": "..."}]}
what is {"shard": S}, {"topic": T} or {"topic": T, "partition": N}; times are in
ms since 1970.

example:
  pipeline pause list --config sessions.toml
""",
    "remove": """\
example:
  pipeline pause remove p1f3a --config sessions.toml
  pipeline pause remove --shard db0 --config sessions.toml
""",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the three commands."""
    add_actions(parser, "pause", SUMMARIES, EXAMPLES, _add_options)


def _add_options(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "list":
        return
    if action == "remove":
        parser.add_argument("id", nargs="?", metavar="PAUSE", help="which: as list shows it")
    parser.add_argument("--shard", metavar="NAME", help="the partitions that write to this shard")
    parser.add_argument("--topic", help="all partitions of this topic")
    parser.add_argument("--partition", metavar="TOPIC-N", help="this partition, such as events-3")
    if action == "add":
        add_wish(parser)


def main(args: argparse.Namespace) -> int:
    """Run one of the three commands and return the exit code; see `act`."""
    return act(args, {"add": _add, "list": _list, "remove": _remove})


def _add(config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace) -> int:
    scope = scope_of(config, cluster, args.shard, args.topic, args.partition)
    refuse_pause(config, cluster, known, scope)
    pause = Pause(id=control.new_id(known, Pause), what=scope, **story(args))
    control.keep(cluster, known, pause)
    tell(pause, args.json, f"pause {pause.id}: {scope} starts nothing new; {LIVE}")
    return 0


def _list(config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace) -> int:
    del cluster
    tell_all(config, "pauses", known.of(Pause), known, pause_lines, args.json)
    return 0


def _remove(
    config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace
) -> int:
    if args.id is not None:
        if (args.shard, args.topic, args.partition) != (None, None, None):
            raise UsageError("say which pause once: its id, or what it stops")
        pause = known.find(Pause, args.id)
    else:
        scope = scope_of(config, cluster, args.shard, args.topic, args.partition)
        found = [each for each in known.of(Pause) if each.what == scope]
        if not found:
            raise UsageError(f"{scope} is not paused: to see what is, pipeline pause list")
        pause = found[0]
    control.take_back(cluster, pause)
    tell(pause, args.json, f"pause {pause.id} of {pause.what} is removed: it goes on within 5 s")
    return 0
