"""The command line: parsers and printing.

Each command is a module ``pipeline.cli.NAME`` with ``configure(parser)`` and ``main(args) -> int``.
It is imported only when its command is called. What a command does is elsewhere: in `pipeline.service`,
`pipeline.check`, `pipeline.operate`, `pipeline.demo` and `pipeline.local`.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from pipeline import __version__
from pipeline.cli.parsers import add_command
from pipeline.errors import PipelineError
from pipeline.runtime.signals import held

COMMANDS = {
    "run": "consume Kafka and write Postgres",
    "ingest": "take records over HTTP and put them on Kafka",
    "check": "validate a configuration, connect to everything, show the plan",
    "demo": "see it work: real servers, two instances, one of them killed",
    "top": "show the whole group live: lag, partitions, shards, instances",
    "lag": "show message lag and time lag, by partition",
    "dlq": "list, show, replay or drop dead letters",
    "rewind": "apply records again, or skip them: the group and the ledger together",
    "hold": "let the records of a key or a tenant wait, and release or drop them",
    "pause": "let a shard, a topic or a partition stand still for a while",
    "limit": "limit how many records of a tenant are taken",
    "local": "start or stop a real Kafka and Postgres on this machine",
    "completion": "print what a shell completes",
}


NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to a full disk, or over a quota or a limit, gives."""


def script() -> int:
    """Run the command that was typed; Ctrl-C ends it with exit code 130, and without a traceback."""
    try:
        return main()
    except KeyboardInterrupt:
        print("\npipeline: interrupted", file=sys.stderr)
        return 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The codes are 0 if it is done, 1 if it failed, and 2 if there is a mistake in what was given.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _print_what_the_terminal_can()
    with held() if argv[:1] in (["run"], ["ingest"]) else nullcontext():
        try:
            parser = make_parser(argv[0] if argv and argv[0] in COMMANDS else None)
            if not argv:
                parser.print_help()
                parser.exit(2)
            args = parse(parser, argv)
            code = int(import_module(f"pipeline.cli.{args.command}").main(args))
            if sys.stdout is not None:  # None: it was closed before the start
                sys.stdout.flush()
            return code
        except PipelineError as error:  # a library of a version that is not known, while importing
            print(f"pipeline: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # whoever read the output has enough: `pipeline check --ddl | head`
            _drop_the_output()
            return 0
        except OSError as error:
            if error.errno not in NOT_WRITTEN:
                raise
            _drop_the_output()
            print(f"pipeline: the output can't be written: {error.strerror}", file=sys.stderr)
            return 1


def _drop_the_output() -> None:
    """What is still in the buffer would fail again when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_what_the_terminal_can() -> None:
    """Escape characters that the terminal's encoding lacks (``LC_ALL=C``) instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. A file that is named without its option gets a hint.

    Raises:
        SystemExit: help was asked for, or there is a mistake; it is printed.
    """
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        file = unknown[0]
        hint = f": for a configuration, give --config {file}" if file.endswith(".toml") else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def make_parser(command: str | None, *, whole: bool = False) -> argparse.ArgumentParser:
    """Return the parser of the command line. It knows the options of ``command`` only; ``whole``: all."""
    parser = argparse.ArgumentParser(
        prog="pipeline",
        description="Kafka to Postgres, in order by key, at the pace that Postgres can bear.",
        epilog="Every command explains itself: pipeline COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"pipeline {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = add_command(commands, name, summary)
        if whole or name == command:
            import_module(f"pipeline.cli.{name}").configure(sub)
    return parser
