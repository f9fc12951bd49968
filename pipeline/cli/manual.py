"""Manual pages, written from the parsers: ``python -m pipeline.cli.manual DIRECTORY``.

A page a command, ``pipeline-COMMAND.1``, and ``pipeline.1`` that lists them. So a page can't tell of an
option that is not there, nor leave one out.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import __version__
from pipeline.cli import COMMANDS, make_parser
from pipeline.cli.completion import parsers_of
from pipeline.cli.parsers import VARIABLE


def pages() -> dict[str, str]:
    """Return every page by its file's name."""
    parser = make_parser(None, whole=True)
    found = {"pipeline.1": _overview(parser)}
    for each in parsers_of(parser):
        _, *words = each.prog.split()
        if len(words) == 1:
            found[f"pipeline-{words[0]}.1"] = _page(each, COMMANDS[words[0]])
    return found


def _overview(parser: argparse.ArgumentParser) -> str:
    listed = (
        f".TP\n.BR {_text(f'pipeline-{name}')} (1)\n{_text(summary)}"
        for name, summary in COMMANDS.items()
    )
    about = (parser.description or "").rstrip(".")
    commands = [".SH COMMANDS", *listed]
    return "\n".join([*_head("pipeline", about, parser), *commands, *_options(parser)]) + "\n"


def _page(parser: argparse.ArgumentParser, summary: str) -> str:
    name = parser.prog.replace(" ", "-")
    lines = [*_head(name, summary, parser), *_options(parser), *_notes(parser, ".SH NOTES")]
    nested = [each for each in parsers_of(parser) if each is not parser]
    if nested:
        lines.append(".SH COMMANDS")
    for each in nested:
        lines += [f".SS {_text(each.prog)}", _text(each.description or ""), *_synopsis(each)]
        lines += [*_arguments(each), *_notes(each, ".PP")]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR pipeline (1)"]) + "\n"


def _head(name: str, summary: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f'.TH {name.upper()} 1 "" "pipeline {__version__}" "pipeline"'
    yield f".SH NAME\n{_text(name)} \\- {_text(summary)}"
    yield ".SH SYNOPSIS"
    yield from _synopsis(parser)


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    yield from (".nf", _text(usage), ".fi")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield ".SH OPTIONS"
    yield from _arguments(parser)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        shown = ", ".join(action.option_strings) or _placeholder(action)
        if action.option_strings and action.nargs != 0:
            shown += f" {_placeholder(action)}"
        told = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f".TP\n.B {_text(shown)}\n{_text(told)}"


def _placeholder(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    return action.metavar or (action.dest.upper() if action.option_strings else action.dest)


def _notes(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    if parser.epilog:
        yield from (heading, ".nf", _text(parser.epilog.strip()), ".fi")


def _text(text: str) -> str:
    """Escape what roff would take for its own: backslashes, hyphens, dots and quotes at a line's start."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def main() -> None:
    """Write every page into the directory that is named, which is made if it is not there."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m pipeline.cli.manual DIRECTORY")
    os.environ.pop(
        VARIABLE, None
    )  # it is the default of an option for who has it, and for nobody else
    os.environ["COLUMNS"] = "80"
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (directory / name).write_text(page, encoding="utf-8")
    print(directory)


if __name__ == "__main__":
    main()
