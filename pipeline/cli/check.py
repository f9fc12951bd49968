"""``pipeline check``."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from pipeline.cli.common import loaded
from pipeline.config.mistakes import ConfigError

EXAMPLE = """\
exit codes:
  0  it can run so: the plan has been printed, and warnings if there are any
  2  mistakes: all of them, one line each (file, key, what is wrong)

Nothing is changed: no topic, no schema, no consumer group.

example:
  pipeline check --config sessions.toml
  pipeline check --ddl | psql "$DSN"     # the ledger, for who may create it
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
    config = loaded(args.config)
    if config is None:
        return 2

    import logging

    from pipeline.check import inspect
    from pipeline.check.plan import paragraph, plan
    from pipeline.runtime import interrupt

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it has to tell is in the findings
    findings = interrupt.run(partial(inspect, config))
    if findings.mistakes:
        print(ConfigError(config.source, findings.mistakes), file=sys.stderr)
    else:
        print(plan(config, findings))
    if findings.warnings:
        print("\nWarnings", file=sys.stderr if findings.mistakes else sys.stdout)
    for warning in findings.warnings:
        text = f"{warning.key}: {warning.message}" if warning.key else warning.message
        lines = "\n".join(paragraph(text))
        print(lines, file=sys.stderr if findings.mistakes else sys.stdout)
    return 2 if findings.mistakes else 0
