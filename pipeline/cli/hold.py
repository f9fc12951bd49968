"""``pipeline hold add|list|release|drop``: the records of a key or a tenant wait."""

from __future__ import annotations

import argparse
import sys

from pipeline.cli.parsers import add_wish
from pipeline.cli.wishes import LIVE, act, add_actions, story, tell, tell_all
from pipeline.config.model import Config
from pipeline.contracts.wish import Hold, HoldState
from pipeline.errors import PipelineError, UsageError
from pipeline.operate import control, held_up
from pipeline.operate.cluster import Cluster
from pipeline.operate.console import confirmed
from pipeline.operate.held_up import HeldUp
from pipeline.operate.refusals import refuse_hold, rule_of
from pipeline.operate.wish_views import hold_lines

SUMMARIES = {
    "add": "let the records of a key or a tenant wait, while all others go on",
    "list": "list what is held, and which records hold up others",
    "release": "apply what waits, in order, before newer records",
    "drop": "skip what waits for good, or give up the first record of it",
}

EXAMPLES = {
    "add": """\
Kafka keeps the records meanwhile, so a hold is refused on a compacted topic,
and where retention is shorter than --for. After --for it is released by itself.

A key or tenant that is found in a record's value is a number if it reads
as one: --key 12 is the number, --key '"12"' the text.

example:
  pipeline hold add --tenant app-7 --for 2h --config sessions.toml
  pipeline hold add --key 4711 --reason "one bad row" --config sessions.toml
""",
    "list": """\
with --json, on one line:
  {"group": "...", "topic": "...", "holds": [{"id": "h1f3a",
   "rule": {"key": 12}, "state": "holding", "by": "ada@host",
   "since": 1777636800000, "until": null, "why": "..."}],
   "held_up": [{"record": "sessions-3@57", "topic": "sessions",
   "partition": 3, "offset": 57, "rule": {"key": 12}, "reason": "retry",
   "since": 1777636800000, "why": "..."}]}
times are in ms since 1970; a key that is no text is {"base64": "..."}.
"held_up" has records that can't be applied ([errors.retry], and
on_reject = "hold-key"): what comes after them waits.

example:
  pipeline hold list --config sessions.toml
  pipeline hold list --all --json --config sessions.toml
""",
    "release": """\
example:
  pipeline hold release h1f3a --config sessions.toml
  pipeline hold release --tenant app-7 --config sessions.toml

A record that holds up others is tried again at once:
  pipeline hold release sessions-3@57 --config sessions.toml
""",
    "drop": """\
Without --first: all that waits is skipped, and never applied. It is counted,
and the database's ledger keeps a line about it. With --first: the first record
that waits goes to the dead letter topic, and the others go on waiting.

example:
  pipeline hold drop h1f3a --config sessions.toml
  pipeline hold drop h1f3a --first --yes --config sessions.toml

A record that holds up others becomes a dead letter, and those go on:
  pipeline hold drop sessions-3@57 --first --config sessions.toml
""",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the four commands."""
    add_actions(parser, "hold", SUMMARIES, EXAMPLES, _add_options)


def _add_options(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "list":
        parser.add_argument("--all", action="store_true", help="also those released or dropped")
        return
    if action != "add":
        what = "which hold, or record: as list shows it"
        parser.add_argument("id", nargs="?", metavar="HOLD", help=what)
    parser.add_argument("--key", help="the records of this ordering key")
    parser.add_argument("--tenant", help="the records of this tenant")
    if action == "add":
        add_wish(parser)
    if action == "drop":
        parser.add_argument("--first", action="store_true", help="only the first that waits")
        parser.add_argument("--yes", action="store_true", help="don't ask")


def main(args: argparse.Namespace) -> int:
    """Run one of the four commands and return the exit code; see `act`.

    It is 1 as well if the answer was no, and 2 if what is asked for can't be kept.
    """
    return act(args, {"add": _add, "list": _list, "release": _release, "drop": _drop})


def _add(config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace) -> int:
    rule = rule_of(config, args.key, args.tenant)
    notes = refuse_hold(config, cluster, known, rule, args.seconds)
    given = story(args)
    hold = Hold(id=control.new_id(known, Hold), rule=rule, changed=given["since"], **given)
    control.keep(cluster, known, hold)
    tell(hold, args.json, f"hold {hold.id}: the records of {rule} wait; {LIVE}", notes)
    return 0


def _list(config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace) -> int:
    del cluster
    holds = [h for h in known.of(Hold) if args.all or h.state not in control.ENDED]
    stuck: list[HeldUp] = []
    code = 0
    if held_up.may_be(config):
        try:
            stuck = held_up.read(config)
        except PipelineError as error:
            print(f"which records hold up others is not known: {error}", file=sys.stderr)
            code = 1
    more = {"held_up": [each.to_json() for each in stuck]}
    tell_all(config, "holds", holds, known, hold_lines, args.json, more)
    if stuck and not args.json:
        print("\n" + "\n".join(held_up.lines(stuck)))
    return code


def _meant(config: Config, known: control.Known, args: argparse.Namespace) -> Hold | HeldUp:
    """Return what is meant, by its id or by its rule: a hold, or a record that holds up others.

    Raises:
        UsageError: not one of the ways is used, or there is nothing such.
        PipelineError: a shard does not answer.
    """
    if args.id is not None:
        if args.key is not None or args.tenant is not None:
            raise UsageError("say which hold once: its id, or --key or --tenant")
        return held_up.named(config, args.id) if "@" in args.id else known.find(Hold, args.id)
    rule = rule_of(config, args.key, args.tenant)
    held = [h for h in known.of(Hold) if h.rule == rule and h.state not in control.ENDED]
    if held:
        return held[0]
    stuck = held_up.of_rule(config, rule)
    if len(stuck) > 1:
        names = ", ".join(map(str, stuck))
        raise UsageError(f"several records hold up {rule}: name one of {names}")
    if not stuck:
        raise UsageError(f"{rule} is not held: to see what is, pipeline hold list")
    return stuck[0]


def _release(
    config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace
) -> int:
    meant = _meant(config, known, args)
    if isinstance(meant, HeldUp):
        ruling = meant.ruling(known, drop=False)
        control.keep(cluster, known, ruling)
        tell(ruling, args.json, f"{meant} is tried again within 5 s, and then what waits for it")
        return 0
    hold = control.change(meant, HoldState.RELEASED, known.now)
    control.keep(cluster, known, hold)
    tell(hold, args.json, f"hold {hold.id} of {hold.rule} is released: what waits is applied now")
    return 0


def _drop(config: Config, cluster: Cluster, known: control.Known, args: argparse.Namespace) -> int:
    state = HoldState.DROP_FIRST if args.first else HoldState.DROPPING
    if args.first and config.errors.dead_letter_topic is None:
        raise UsageError(
            "the first record would go to the dead letter topic: set [errors] dead_letter_topic"
        )
    meant = _meant(config, known, args)
    if isinstance(meant, HeldUp):
        return _give_up(cluster, known, meant, args)
    hold = control.change(meant, state, known.now)
    what = "the first record" if args.first else "everything"
    if not confirmed(f"Give up {what} that waits of {hold.rule} (hold {hold.id})?", args.yes):
        print("nothing was dropped")
        return 1
    control.keep(cluster, known, hold)
    done = (
        "the first record that waits becomes a dead letter"
        if args.first
        else ("what waits is skipped for good, and newer records are applied again")
    )
    tell(hold, args.json, f"hold {hold.id} of {hold.rule}: {done}")
    return 0


def _give_up(
    cluster: Cluster, known: control.Known, record: HeldUp, args: argparse.Namespace
) -> int:
    """Give up the record that holds up others."""
    rule = record.lane.rule
    if not args.first:
        raise UsageError(
            f"{record} is one record: add --first to give it up; to skip all that waits of {rule}, "
            "hold it (pipeline hold add), and drop that hold"
        )
    if not confirmed(f"Give up {record}, which holds up {rule}?", args.yes):
        print("nothing was dropped")
        return 1
    ruling = record.ruling(known, drop=True)
    control.keep(cluster, known, ruling)
    tell(ruling, args.json, f"{record} becomes a dead letter, and what waits for it goes on")
    return 0
