"""``pipeline run``: the consumer."""

from __future__ import annotations

import argparse

from pipeline.cli.common import add_config, loaded, run_service


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser)
    parser.add_argument(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error"],
        help="what to log, on standard error (default: info)",
    )
    parser.epilog = """\
exit codes:
  0  stopped by SIGTERM or SIGINT: drained, committed, left the group
  1  a fatal error, named in one message
  2  a mistake in the configuration, one line each

example:
  pipeline run --config sessions.toml
"""


def main(args: argparse.Namespace) -> int:
    """Consume until stopped."""
    config = loaded(args.config)
    if config is None:
        return 2
    return run_service(config, args.log_level)
