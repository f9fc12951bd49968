"""Parts of parsers that several commands share. Imports nothing but argparse: ``--help`` is quick."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands, name: str, summary: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Add a command to a parser's commands; ``epilog`` is printed as it is, line by line."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option that nearly every command has."""
    parser.add_argument("--config", required=True, metavar="FILE", help="the configuration (TOML)")


def above_zero(text: str) -> int:
    """Return the whole number above 0 that a text is.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, not {text!r}")
    return int(text)
