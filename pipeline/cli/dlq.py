"""``pipeline dlq list|show|replay|drop``: dead letters."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import attrs

from pipeline.cli.common import with_config
from pipeline.cli.parsers import above_zero, add_command, add_config
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config
from pipeline.errors import PipelineError, UsageError
from pipeline.operate.cluster import open_cluster
from pipeline.operate.console import confirmed, counted
from pipeline.operate.deadletters import DeadLetter, Filter, Found, find
from pipeline.operate.exclusion import alone
from pipeline.operate.moments import EXPECTED, parse_moment
from pipeline.operate.replay import CHUNK, OnProgress, drop, replay, units_of
from pipeline.operate.views import dead_letter_details, dead_letter_json, dead_letter_lines

EXAMPLES = {
    "list": """\
with --json, on one line:
  {"topic": "...", "group": "...", "others": 0,
   "dead_letters": [{"partition": 0, "offset": 17, "state": "waiting",
      "source": {"topic": "...", "partition": 0, "offset": 42},
      "reason": "...", "sqlstate": "23514", "key": "...", "value": "...", ...}]}
state is waiting, replayed or dropped; what is not UTF-8 is {"base64": "..."}.

example:
  pipeline dlq list --config sessions.toml
  pipeline dlq list --config sessions.toml --error 23 --since 2h
  pipeline dlq list --config sessions.toml --error CheckViolationError --key a-1
""",
    "show": """\
example:
  pipeline dlq show 17 --config sessions.toml
  pipeline dlq show 2:17 --config sessions.toml   # offset 17 of partition 2
  pipeline dlq show 17 --raw --config sessions.toml > value.json
""",
    "replay": f"""\
Sends dead letters back, unchanged, to the topic and partition that they came
from, in the order that they had there. They are applied after whatever has come
since. What was sent is marked on the dead letter topic, so the command can be
repeated. If it is interrupted, the next replay sends at most {CHUNK} of them a
second time. Only one replay or drop runs at a time; another ends at once.

One that must be repaired: write its value to a file (dlq show --raw), edit it,
and replay it with --value. Key and headers stay.

example:
  pipeline dlq replay --config sessions.toml
  pipeline dlq replay 17 18 --config sessions.toml
  pipeline dlq replay 17 --value value.json --config sessions.toml
  pipeline dlq replay --config sessions.toml --error 23503 --until 2026-05-01
""",
    "drop": """\
Dropped dead letters stay on their topic until its retention removes them, but
list and replay leave them out. To send them after all: replay --again.

example:
  pipeline dlq drop 17 --config sessions.toml --yes
  pipeline dlq drop --config sessions.toml --error 22P02
""",
}

SUMMARIES = {
    "list": "list the dead letters that wait for a decision",
    "show": "show everything about one dead letter",
    "replay": "send dead letters back to where they came from",
    "drop": "mark dead letters as dropped",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the four commands."""
    commands = parser.add_subparsers(dest="action", metavar="list|show|replay|drop", required=True)
    for name, summary in SUMMARIES.items():
        sub = add_command(commands, name, summary, EXAMPLES[name])
        add_config(sub)
        _add_places(sub, name)
        if name != "show":
            _add_filters(sub)
    parser.epilog = (
        "example:\n  pipeline dlq list --config sessions.toml\n\n"
        "each command explains itself: pipeline dlq replay --help"
    )


def _add_places(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "show":
        parser.add_argument("offsets", nargs=1, type=place, metavar="OFFSET")
        forms = parser.add_mutually_exclusive_group()
        forms.add_argument("--json", action="store_true", help="print JSON instead of text")
        forms.add_argument("--raw", action="store_true", help="print the value alone, byte by byte")
        return
    if action != "list":
        parser.add_argument(
            "offsets", nargs="*", type=place, metavar="OFFSET",
            help="only these: offsets as list shows them",
        )  # fmt: skip
    if action == "list":
        parser.add_argument("--all", action="store_true", help="also those replayed or dropped")
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if action == "replay":
        parser.add_argument(
            "--again", action="store_true", help="also those replayed or dropped before"
        )
        parser.add_argument(
            "--value", metavar="FILE", help="send this value instead, with a single OFFSET"
        )
    if action == "drop":
        parser.add_argument("--yes", action="store_true", help="don't ask")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--error", help="the start of an SQLSTATE (23, 22P02), or the name of an exception's class"
    )
    parser.add_argument("--key", help="the message key")
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help=f"set aside from then on: {EXPECTED}"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="set aside before then")
    parser.add_argument("--limit", type=above_zero, metavar="N", help="only the first N")


def place(text: str) -> tuple[int | None, int]:
    """Return the partition (None: any) and the offset of ``OFFSET`` or ``PARTITION:OFFSET``."""
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected OFFSET or PARTITION:OFFSET")
    return (None if match[1] is None else int(match[1])), int(match[2])


def moment(text: str) -> datetime:
    """Return the moment of a time or an age."""
    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(args: argparse.Namespace) -> int:
    """Run one of the four commands and return the exit code.

    The code is 1 if Kafka fails, another command is at work, or what is asked for does not exist; 2 if
    the configuration or what was given has a mistake.
    """
    return with_config(args.config, partial(_run, args=args))


def _run(config: Config, *, args: argparse.Namespace) -> int:
    topic = config.errors.dead_letter_topic
    if topic is None:
        message = (
            "not set, so no record is set aside: one that can't be applied stops the pipeline; name "
            "a topic to keep such records on"
        )
        raise ConfigError(config.source, [Mistake("errors.dead_letter_topic", message)])
    actions = {"list": _list, "show": _show, "replay": _replay, "drop": _drop}
    return actions[args.action](config, topic, args)


def meant(args: argparse.Namespace) -> Filter:
    """Return the filter that the options describe."""
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
    if args.json:
        print(json.dumps({
            "topic": topic, "group": config.kafka.group_id, "others": found.foreign,
            "dead_letters": [dead_letter_json(each, found.state(each)) for each in shown],
        }))  # fmt: skip
        return 0
    if shown:
        print("\n".join(dead_letter_lines(shown, found, several=several)))
    left = f" ({len(shown)} shown)" if len(shown) < len(letters) else ""
    print(f"{counted(len(letters), 'dead letter')} on {topic}{left}")
    if not args.all and (handled := len(found.letters) - len(found.waiting())):
        print(f"{handled} replayed or dropped: --all shows them too")
    if found.foreign:
        others = counted(found.foreign, "other record")
        print(f"{others} there, none of group {config.kafka.group_id}'s dead letters")
    return 0


def _show(config: Config, topic: str, args: argparse.Namespace) -> int:
    with open_cluster(config) as cluster:
        found = find(cluster, topic, Filter(offsets=tuple(args.offsets)))
    if not found.letters:
        raise PipelineError(
            f"there is no dead letter of group {config.kafka.group_id} at that offset"
        )
    if len(found.letters) > 1:
        which = ", ".join(f"{x.place.partition}:{x.offset}" for x in found.letters)
        raise PipelineError(f"several partitions have this offset: name one of {which}")
    (letter,) = found.letters
    if args.raw:
        if letter.value is None:
            raise PipelineError(f"dead letter {letter} has no value: it is a tombstone")
        sys.stdout.flush()
        sys.stdout.buffer.write(letter.value)
        return 0
    if args.json:
        print(json.dumps(dead_letter_json(letter, found.state(letter))))
        return 0
    print("\n".join(dead_letter_details(letter, found.state(letter))))
    return 0


def _selected(found: Found, args: argparse.Namespace, *, again: bool) -> list[DeadLetter]:
    """Return the first ``--limit`` records meant, with every dead letter that stands for them."""
    units = units_of(found.letters if again else found.waiting())[: args.limit]
    return [letter for unit in units for letter in unit.letters]


def _repaired(letters: Sequence[DeadLetter], file: str) -> list[DeadLetter]:
    """Return the dead letters of one record with the value that a file holds.

    Raises:
        UsageError: it is not one record, or the file can't be read.
    """
    if len(units_of(letters)) != 1:
        raise UsageError(f"--value is for one dead letter: {len(units_of(letters))} match")
    try:
        value = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"--value {file} can't be read: {error.strerror or error}") from error
    return [attrs.evolve(letter, value=value) for letter in letters]


def _replay(config: Config, topic: str, args: argparse.Namespace) -> int:
    if args.value is not None and len(args.offsets) != 1:
        raise UsageError("--value replaces the value of one dead letter: give its OFFSET")
    with open_cluster(config) as cluster, alone(cluster, topic) as check:
        found = find(cluster, topic, meant(args))
        found.demand(args.offsets, config.kafka.group_id)
        letters = _selected(found, args, again=args.again)
        if args.value is not None:
            letters = _repaired(letters, args.value)
        total = len(units_of(letters))
        with progress("replayed", total) as on_progress:
            done = replay(cluster, letters, on_progress, check)
    print(f"replayed {counted(done, 'dead letter')}")
    passed = len(found.letters) - len(found.waiting())
    if passed and not args.again:
        print(f"left out {passed} that were replayed or dropped before; --again sends them too")
    return 0


def _drop(config: Config, topic: str, args: argparse.Namespace) -> int:
    with open_cluster(config) as cluster, alone(cluster, topic) as check:
        found = find(cluster, topic, meant(args))
        found.demand(args.offsets, config.kafka.group_id)
        letters = _selected(found, args, again=False)
        if not letters:
            print(f"no dead letter on {topic} matches: nothing was dropped")
            return 0
        if not confirmed(f"Drop {counted(len(letters), 'dead letter')} from {topic}?", args.yes):
            print("nothing was dropped")
            return 1
        with progress("dropped", len(letters)) as on_progress:
            done = drop(cluster, letters, on_progress, check)
    print(f"dropped {counted(done, 'dead letter')}")
    return 0


@contextmanager
def progress(verb: str, total: int) -> Iterator[OnProgress]:
    """Show a bar on a terminal, and a line per step elsewhere; nothing if there is only one step."""
    if total <= CHUNK:
        yield lambda _: None
    elif not sys.stdout.isatty():
        yield lambda done: print(f"{verb} {done} of {total}", flush=True)
    else:
        from rich.progress import Progress  # only here: importing it takes long

        with Progress() as bar:
            task = bar.add_task(verb, total=total)
            yield lambda done: bar.update(task, completed=done)
