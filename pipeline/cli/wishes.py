"""What the commands ``hold``, ``pause`` and ``limit`` share: options, what is made, what is printed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from pipeline.cli.common import with_config
from pipeline.cli.parsers import add_command, add_config
from pipeline.config.model import Config
from pipeline.contracts.wish import AnyWish, Hold, Pause, RateLimit
from pipeline.contracts.wish_codec import to_json
from pipeline.kafka.control_topic import control_topic_of
from pipeline.operate import control
from pipeline.operate.cluster import Cluster, open_cluster
from pipeline.operate.control import Known, operator
from pipeline.operate.wish_views import wishes_json

W = TypeVar("W", Hold, Pause, RateLimit)

NOTHING: Mapping[str, Any] = MappingProxyType({})

LIVE = "every instance follows within 5 s, and after restarts"

Action: TypeAlias = Callable[[Config, Cluster, Known, argparse.Namespace], int]
"""Does what one of the commands is for, with the wishes that are known; returns the exit code."""


def add_actions(
    parser: argparse.ArgumentParser,
    command: str,
    summaries: Mapping[str, str],
    examples: Mapping[str, str],
    add_options: Callable[[argparse.ArgumentParser, str], None],
) -> None:
    """Declare the commands below ``hold``, ``pause`` or ``limit``: add, list and what else there is.

    Args:
        command: which of the three it is.
        summaries: what each does, by its name.
        examples: what is printed below its options.
        add_options: adds the options that it has beside the configuration's.
    """
    names = "|".join(summaries)
    commands = parser.add_subparsers(dest="action", metavar=names, required=True)
    for name, summary in summaries.items():
        sub = add_command(commands, name, summary, examples[name])
        add_config(sub)
        add_options(sub, name)
        if name != "add":  # there `add_wish` has it
            what = "a table" if name == "list" else "text"
            sub.add_argument("--json", action="store_true", help=f"print JSON instead of {what}")
    parser.epilog = (
        f"example:\n  pipeline {command} list --config sessions.toml\n\n"
        f"each command explains itself: pipeline {command} add --help"
    )


def act(args: argparse.Namespace, actions: Mapping[str, Action]) -> int:
    """Do what was asked for, and return the exit code.

    It is 1 if Kafka fails, and 2 if the configuration or what was given has a mistake.
    """

    def work(config: Config) -> int:
        with open_cluster(config) as cluster:
            return actions[args.action](config, cluster, control.read(cluster), args)

    return with_config(args.config, work)


def story(args: argparse.Namespace) -> dict[str, Any]:
    """Return who wishes it, when, how long, and why: the fields that every wish has, but its id."""
    now = int(time.time() * 1000)
    until = None if args.seconds is None else now + int(args.seconds * 1000)
    return {"by": operator(), "since": now, "until": until, "why": args.reason}


def tell(wish: AnyWish, as_json: bool, sentence: str, notes: Sequence[str] = ()) -> None:
    """Print what is wished now; ``notes`` are what to know about it."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(to_json(wish)) if as_json else sentence)


def tell_all(
    config: Config,
    name: str,
    wishes: Sequence[W],
    known: Known,
    lines: Callable[[Sequence[W]], Iterator[str]],
    as_json: bool,
    more: Mapping[str, Any] = NOTHING,
) -> None:
    """Print a list of wishes, and on standard error what this version can't read.

    Args:
        more: what else stands in the JSON.
    """
    group = config.kafka.group_id
    topic = control_topic_of(group)
    for why in known.unreadable:
        print(f"note: {topic}: not shown: {why}", file=sys.stderr)
    if as_json:
        print(json.dumps({**wishes_json(group, topic, name, wishes), **more}))
    elif wishes:
        print("\n".join(lines(wishes)))
    else:
        print(f"no {name} in group {group}")
