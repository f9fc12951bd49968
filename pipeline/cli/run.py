"""``pipeline run``: the consumer."""

from __future__ import annotations

import argparse
import logging

from pipeline import __version__
from pipeline.cli.parsers import add_config, add_log_level
from pipeline.cli.serving import serve, with_supervision
from pipeline.config.model import Config
from pipeline.supervise.supervision import Supervision


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser)
    add_log_level(parser)
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
    return with_supervision(args, run_service)


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
