"""``pipeline run``: the consumer."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from functools import partial

from pipeline import __version__
from pipeline.cli.common import load_at_level
from pipeline.cli.parsers import add_config
from pipeline.cli.serving import serve
from pipeline.config.mistakes import ConfigError
from pipeline.config.model import Config
from pipeline.supervise.supervision import Supervision, tell_failure


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser)
    parser.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        help="what to log, on standard error (default: log.level of the configuration, or info)",
    )
    parser.epilog = """\
exit codes:
  0  stopped by SIGTERM, SIGINT or SIGHUP: drained, committed, left the group;
     under systemd SIGHUP reads the configuration again
  1  a fatal error, named in one message
  2  a mistake in the configuration, one line each; or a server refuses
     what is configured: a certificate, a password, a right, a table

example:
  pipeline run --config sessions.toml
"""


def main(args: argparse.Namespace) -> int:
    """Consume until stopped, and return the exit code."""
    read = partial(load_at_level, args.config, args.log_level)
    supervision = Supervision.of(os.environ, None if args.config == "-" else read)
    try:
        config = read()
    except ConfigError as error:
        tell_failure(supervision.notifier, str(error))
        print(error, file=sys.stderr)
        return 2
    return run_service(config, supervision)


def run_service(config: Config, supervision: Supervision) -> int:
    """Run the consumer and return its exit code."""
    # Imported here: what is wrong with a configuration is printed without waiting for these.
    from pipeline.observe.logging import configure_logging
    from pipeline.observe.progress import announcement
    from pipeline.runtime.collector import spare_the_collector
    from pipeline.service import run

    configure_logging(config.log.level.upper(), config.log.format)
    log = logging.getLogger("pipeline")
    log.info("version %s, configured by %s", __version__, config.source)
    for line in announcement(config):
        log.info("%s", line)
    spare_the_collector()
    return serve(run, config, supervision)
