"""How ``run`` and ``ingest`` end: what ended them is told to people and to the service manager."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from pipeline.cli.common import exit_code, known, load_at_level, messages
from pipeline.config.mistakes import ConfigError
from pipeline.config.model import Config
from pipeline.supervise.supervision import Supervision, tell_end, tell_failure

log = logging.getLogger("pipeline")


def with_supervision(args: argparse.Namespace, work: Callable[[Config, Supervision], int]) -> int:
    """Load the configuration, and do a command's work with it under the service manager, if there is one.

    Returns the exit code: 2, with the mistakes told to both, if the configuration has any. SIGHUP reads
    it again the same way, unless it came from standard input.
    """
    read = partial(load_at_level, args.config, args.log_level)
    supervision = Supervision.of(os.environ, None if args.config == "-" else read)
    try:
        return work(read(), supervision)
    except ConfigError as error:
        tell_failure(supervision.notifier, str(error))
        print(error, file=sys.stderr)
        return 2


def serve(
    run: Callable[[Config, Supervision], Awaitable[object]],
    config: Config,
    supervision: Supervision,
) -> int:
    """Run until a signal or an error; return the exit code. Each cause of an error is logged once."""
    try:
        trio.run(run, config, supervision)
    except (Exception, BaseExceptionGroup) as error:  # the program's end: reported, never swallowed
        if not known(error):
            log.exception("an error that the pipeline does not know")
        tell_failure(supervision.notifier, "; ".join(messages(error)))
        for line in (line for message in messages(error) for line in message.splitlines()):
            log.critical("%s", line)
        return exit_code(error)
    tell_end(supervision.notifier)
    return 0
