"""``pipeline completion``: what a shell completes, printed for it to read."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from pipeline.cli import make_parser

SHELLS = ("bash", "zsh", "fish")

FILES = ("FILE", "DIRECTORY")
"""Placeholders in the help that stand for a file."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="for which shell")
    parser.epilog = """\
To have it for good, write what it prints to this file:

  bash  ~/.local/share/bash-completion/completions/pipeline
  zsh   _pipeline in a directory of $fpath
  fish  ~/.config/fish/completions/pipeline.fish

example:
  eval "$(pipeline completion bash)"
"""


def main(args: argparse.Namespace) -> int:
    """Print the script, and return the exit code."""
    print(script_for(args.shell))
    return 0


def script_for(shell: str) -> str:
    """Return the script that completes every command, option and choice in a shell."""
    import shtab  # here: only this command needs it

    parser = make_parser(None, whole=True)
    for each in parsers_of(parser):
        for action in each._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def parsers_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its commands, at any depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers_of(command)
