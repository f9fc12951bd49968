"""``pipeline ingest``: the HTTP endpoint."""

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
It answers 202 when Kafka has acknowledged. To use several cores start several
with the same configuration: they listen at the same address, and the kernel
divides the connections among them.

exit codes:
  0  stopped by SIGTERM, SIGINT or SIGHUP: everything under way was answered;
     under systemd SIGHUP reads the configuration again
  1  a fatal error, named in one message
  2  a mistake in the configuration, or a right that is missing, one line each

example:
  pipeline ingest --config sessions.toml &
  curl -H 'Content-Type: application/json' -d '{"id": 7, "app_id": "app-1"}' \\
       http://127.0.0.1:8080/v1/records
"""


def main(args: argparse.Namespace) -> int:
    """Take records until stopped, and return the exit code."""
    return with_supervision(args, _run)


def _run(config: Config, supervision: Supervision) -> int:
    # Imported here: what is wrong with a configuration is printed without waiting for these.
    from pipeline.ingest.service import run
    from pipeline.ingest.settings import read_certificate, read_schema, require_ingest
    from pipeline.observe.logging import configure_logging
    from pipeline.runtime.collector import spare_the_collector

    ingest = require_ingest(config)
    read_schema(config, ingest)
    read_certificate(config, ingest)
    configure_logging(config.log.level.upper(), config.log.format)
    log = logging.getLogger("pipeline")
    log.info("version %s, configured by %s", __version__, config.source)
    if not ingest.tokens and not ingest.listen[0].startswith(("127.", "::1", "localhost")):
        log.warning("there are no ingest.tokens: whoever reaches %s can write", ingest.listen[0])
    spare_the_collector()
    return serve(run, config, supervision)
