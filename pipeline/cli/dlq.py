"""``pipeline dlq list|show|replay|drop``: dead letters."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pipeline.cli.common import add_config, loaded, report
from pipeline.config.model import Config
from pipeline.errors import PipelineError
from pipeline.operate.cluster import open_cluster
from pipeline.operate.console import confirmed
from pipeline.operate.deadletters import DeadLetter, Filter, Found, find
from pipeline.operate.exclusion import alone
from pipeline.operate.moments import EXPECTED, parse_moment
from pipeline.operate.replay import CHUNK, drop, replay, units_of
from pipeline.operate.views import described, lines_of

EXAMPLES = {
    "list": """\
example:
  pipeline dlq list --config sessions.toml
  pipeline dlq list --config sessions.toml --error 23 --since 2h
  pipeline dlq list --config sessions.toml --error CheckViolationError --key a-1
""",
    "show": """\
example:
  pipeline dlq show 17 --config sessions.toml
  pipeline dlq show 2:17 --config sessions.toml   # offset 17 of partition 2
""",
    "replay": f"""\
Sends dead letters back to the topic and partition that they came from, as they
were, each partition's in the order that they had there. They apply after
whatever has come since. What was sent is marked on the dead letter topic, so
that the command can be repeated; interrupted, the next one sends at most
{CHUNK} of them again. While one is at work, another one stops at once.

example:
  pipeline dlq replay --config sessions.toml
  pipeline dlq replay 17 18 --config sessions.toml
  pipeline dlq replay --config sessions.toml --error 23503 --until 2026-05-01
""",
    "drop": """\
Dropped dead letters stay on their topic until its retention removes them; list
and replay pass them over. To get them back: pipeline dlq replay --again.

example:
  pipeline dlq drop 17 --config sessions.toml --yes
  pipeline dlq drop --config sessions.toml --error 22P02
""",
}

SUMMARIES = {
    "list": "list the dead letters that wait",
    "show": "show everything about one dead letter",
    "replay": "send dead letters back to where they came from",
    "drop": "mark dead letters as dropped",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the four commands."""
    commands = parser.add_subparsers(dest="action", metavar="list|show|replay|drop", required=True)
    for name, summary in SUMMARIES.items():
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_config(sub)
        _add_places(sub, name)
        if name != "show":
            _add_filters(sub)
    parser.epilog = (
        "example:\n  pipeline dlq list --config sessions.toml\n\n"
        "each explains itself: pipeline dlq replay --help"
    )


def _add_places(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "show":
        parser.add_argument("offsets", nargs=1, type=place, metavar="OFFSET")
        return
    if action != "list":
        parser.add_argument(
            "offsets", nargs="*", type=place, metavar="OFFSET",
            help="only these, as list shows them",
        )  # fmt: skip
    if action == "list":
        parser.add_argument("--all", action="store_true", help="those replayed or dropped too")
    if action == "replay":
        parser.add_argument(
            "--again", action="store_true", help="those replayed or dropped before too"
        )
    if action == "drop":
        parser.add_argument("--yes", action="store_true", help="don't ask")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--error", help="the start of an SQLSTATE (23, 22P02), or the name of an exception's class"
    )
    parser.add_argument("--key", help="the message key")
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help=f"given up from then on: {EXPECTED}"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="given up before then")
    parser.add_argument("--limit", type=count, metavar="N", help="only the first so many")


def place(text: str) -> tuple[int | None, int]:
    """An offset, or PARTITION:OFFSET."""
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected OFFSET or PARTITION:OFFSET")
    return (None if match[1] is None else int(match[1])), int(match[2])


def moment(text: str) -> datetime:
    """A time or an age."""
    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Run one of the four; 1 where Kafka fails, another is at work, or what is asked for is not there."""
    config = loaded(args.config)
    if config is None:
        return 2
    topic = config.errors.dead_letter_topic
    if topic is None:
        print(
            f"pipeline dlq: {args.config} names no [errors] dead_letter_topic, so nothing is set "
            "aside: a record that can't be applied stops the pipeline",
            file=sys.stderr,
        )
        return 2
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what matters of it is in our message
    actions = {"list": _list, "show": _show, "replay": _replay, "drop": _drop}
    try:
        return actions[args.action](config, topic, args)
    except PipelineError as error:
        report(error)
        return 1


def meant(args: argparse.Namespace) -> Filter:
    """The filter that the options are."""
    return Filter(
        error=args.error, key=args.key, since=args.since, until=args.until,
        offsets=tuple(getattr(args, "offsets", ())),
    )  # fmt: skip


def _list(config: Config, topic: str, args: argparse.Namespace) -> int:
    with open_cluster(config) as cluster:
        found = find(cluster, topic, meant(args))
        several = len(cluster.partitions(topic)) > 1
    letters = found.letters if args.all else found.waiting()
    letters = sorted(letters, key=lambda letter: (letter.place, letter.offset))
    shown = letters[: args.limit]
    if shown:
        print("\n".join(lines_of(shown, found, several=several)))
    left = f" ({len(shown)} shown)" if len(shown) < len(letters) else ""
    print(f"{_counted(len(letters))} on {topic}{left}")
    if not args.all and (handled := len(found.letters) - len(found.waiting())):
        print(f"{handled} replayed or dropped: --all shows them too")
    if found.foreign:
        print(f"{found.foreign} records there are none of group {config.kafka.group_id}")
    return 0


def _counted(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _show(config: Config, topic: str, args: argparse.Namespace) -> int:
    with open_cluster(config) as cluster:
        found = find(cluster, topic, Filter(offsets=tuple(args.offsets)))
    if not found.letters:
        raise PipelineError(f"there is no dead letter of group {config.kafka.group_id} there")
    if len(found.letters) > 1:
        which = ", ".join(f"{x.place.partition}:{x.offset}" for x in found.letters)
        raise PipelineError(f"several partitions have this offset: name one of {which}")
    (letter,) = found.letters
    print("\n".join(described(letter, found.state(letter))))
    return 0


def _selected(found: Found, args: argparse.Namespace, *, again: bool) -> list[DeadLetter]:
    """The first ``--limit`` records meant, with every dead letter that stands for them."""
    units = units_of(found.letters if again else found.waiting())[: args.limit]
    return [letter for unit in units for letter in unit.letters]


def _replay(config: Config, topic: str, args: argparse.Namespace) -> int:
    with open_cluster(config) as cluster, alone(cluster, topic) as check:
        found = find(cluster, topic, meant(args))
        letters = _selected(found, args, again=args.again)
        total = len(units_of(letters))
        with progress("replayed", total) as told:
            done = replay(cluster, letters, told, check)
    print(f"replayed {_counted(done)}")
    passed = len(found.letters) - len(found.waiting())
    if passed and not args.again:
        print(f"passed over {passed} that were replayed or dropped before; --again sends them too")
    return 0


def _drop(config: Config, topic: str, args: argparse.Namespace) -> int:
    with open_cluster(config) as cluster, alone(cluster, topic) as check:
        found = find(cluster, topic, meant(args))
        letters = _selected(found, args, again=False)
        if not letters:
            print(f"no dead letter on {topic} is meant: nothing was dropped")
            return 0
        if not confirmed(f"Drop {_counted(len(letters))} from {topic}?", args.yes):
            print("nothing was dropped")
            return 1
        with progress("dropped", len(letters)) as told:
            done = drop(cluster, letters, told, check)
    print(f"dropped {_counted(done)}")
    return 0


@contextmanager
def progress(verb: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, and a line for each step elsewhere; nothing for a single step."""
    if total <= CHUNK:
        yield lambda _: None
    elif not sys.stdout.isatty():
        yield lambda done: print(f"{verb} {done} of {total}", flush=True)
    else:
        from rich.progress import Progress  # only here: importing it takes long

        with Progress() as bar:
            task = bar.add_task(verb, total=total)
            yield lambda done: bar.update(task, completed=done)
