"""``pipeline check``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import TextIO

from pipeline.cli.common import with_config
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config

EXAMPLE = """\
exit codes:
  0  it can run as configured; prints the plan, and warnings if there are any
  2  mistakes; prints all of them, one line each (file, key, what is wrong)

Nothing is changed: no topic, no schema, no consumer group.

example:
  pipeline check --config sessions.toml
  pipeline check --ddl | psql "$DSN"     # as a user who may create the ledger
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--config", metavar="FILE", help="the configuration (TOML)")
    parser.add_argument(
        "--ddl", action="store_true", help="print the ledger's SQL; connect to nothing"
    )
    parser.epilog = EXAMPLE


def main(args: argparse.Namespace) -> int:
    """Check a configuration, or print the ledger's SQL."""
    if args.ddl:
        from pipeline.postgres.ledger.schema import ddl

        print(ddl())
        return 0
    if args.config is None:
        print("pipeline check: give --config FILE, or --ddl", file=sys.stderr)
        return 2
    return with_config(args.config, _check)


def _check(config: Config) -> int:
    from pipeline.check import inspect
    from pipeline.check.plan import plan
    from pipeline.runtime import interrupt

    findings = interrupt.run(partial(inspect, config))
    if not findings.mistakes:
        print(plan(config, findings))
        _print_warnings(findings.warnings, sys.stdout)
        return 0
    print(ConfigError(config.source, findings.mistakes), file=sys.stderr)
    _print_warnings(findings.warnings, sys.stderr)
    return 2


def _print_warnings(warnings: Sequence[Mistake], stream: TextIO) -> None:
    from pipeline.check.plan import paragraph

    if warnings:
        print("\nWarnings", file=stream)
    for warning in warnings:
        text = f"{warning.key}: {warning.message}" if warning.key else warning.message
        print("\n".join(paragraph(text)), file=stream)
