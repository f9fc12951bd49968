"""What the commands ``hold``, ``pause`` and ``limit`` share: options, what is made, what is printed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.config.model import Config
from pipeline.contracts.wish import AnyWish, Hold, Pause, RateLimit
from pipeline.contracts.wish_codec import to_json
from pipeline.kafka.control_topic import control_topic_of
from pipeline.operate.control import Known, operator
from pipeline.operate.wish_views import wishes_json

W = TypeVar("W", Hold, Pause, RateLimit)

LIVE = "every instance follows within 5 s, and after restarts"


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
) -> None:
    """Print a list of wishes, and on standard error what this version can't read."""
    group = config.kafka.group_id
    topic = control_topic_of(group)
    for why in known.unreadable:
        print(f"note: {topic}: not shown: {why}", file=sys.stderr)
    if as_json:
        print(json.dumps(wishes_json(group, topic, name, wishes)))
    elif wishes:
        print("\n".join(lines(wishes)))
    else:
        print(f"no {name} in group {group}")
