"""``pipeline check``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO

from pipeline.cli.common import with_config
from pipeline.cli.parsers import add_config
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config

if TYPE_CHECKING:
    from pipeline.check.starts import PartitionStart

EXAMPLE = """\
exit codes:
  0  it can run as configured; prints the plan, and warnings if there are any
  2  mistakes; prints all of them, one line each (file, key, what is wrong)

with --json, on one line:
  {"file": "...", "ok": false, "warnings": [...],
   "mistakes": [{"key": "sink.table", "message": "..."}, ...],
   "starts": [{"topic": "...", "partition": 0, "offset": 100,
               "why": "the group's offset", "waiting": 20}, ...]}

Nothing is changed: no topic, no schema, no consumer group.

example:
  pipeline check --config sessions.toml
  pipeline check --ddl | psql "$DSN"     # as a user who may create the ledger
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
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
    if args.json:
        return with_config(args.config, _inspect_as_json, _print_as_json)
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


def _inspect_as_json(config: Config) -> int:
    """Print one object on one line. What is wrong with the file itself is printed alike."""
    from pipeline.check import inspect
    from pipeline.runtime import interrupt

    findings = interrupt.run(partial(inspect, config))
    print(_json(config.source, findings.mistakes, findings.warnings, findings.starts))
    return 2 if findings.mistakes else 0


def _print_as_json(error: ConfigError) -> None:
    print(_json(error.source, error.mistakes, ()))


def _json(
    source: str,
    mistakes: Sequence[Mistake],
    warnings: Sequence[Mistake],
    starts: Sequence[PartitionStart] = (),
) -> str:
    def listed(found: Sequence[Mistake]) -> list[dict[str, str]]:
        return [{"key": each.key, "message": each.message} for each in found]

    return json.dumps(
        {"file": source, "ok": not mistakes, "mistakes": listed(mistakes),
         "warnings": listed(warnings),
         "starts": [{"topic": each.source.topic, "partition": each.source.partition,
                     "offset": each.offset, "why": each.why, "waiting": each.waiting}
                    for each in starts]},
    )  # fmt: skip


def _print_warnings(warnings: Sequence[Mistake], stream: TextIO) -> None:
    from pipeline.check.plan import paragraph

    if warnings:
        print("\nWarnings", file=stream)
    for warning in warnings:
        text = f"{warning.key}: {warning.message}" if warning.key else warning.message
        print("\n".join(paragraph(text)), file=stream)
