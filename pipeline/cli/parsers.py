"""Parts of parsers that several commands share. It imports little, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import os
from typing import TypeAlias

VARIABLE = "PIPELINE_CONFIG"
"""The environment variable that names the configuration if no option does."""

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


def add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the option that nearly every command has. The environment's `VARIABLE` is its default."""
    given = os.environ.get(VARIABLE) or None
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=given, required=required and given is None,
        help=f"the configuration (TOML); - is standard input; default: ${VARIABLE}",
    )  # fmt: skip


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Add the option of the commands that run until they are stopped."""
    parser.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        help="what to log, on standard error (default: log.level of the configuration, or info)",
    )


def above_zero(text: str) -> int:
    """Return the whole number above 0 that a text is.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, not {text!r}")
    return int(text)


def span(text: str) -> float:
    """Return the seconds of a duration.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    from pipeline.operate.moments import parse_span  # only here: it is seldom needed

    try:
        return parse_span(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_wish(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that adds a wish: how long, why, and JSON."""
    parser.add_argument(
        "--for", dest="seconds", type=span, metavar="TIME",
        help="it ends by itself after that: 90s, 15m, 2h or 3d (default: when it is removed)",
    )  # fmt: skip
    parser.add_argument("--reason", default="", help="why, for whoever sees it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
