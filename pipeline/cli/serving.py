"""How ``run`` and ``ingest`` end: what ended them is told to people and to the service manager."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from pipeline.cli.common import exit_code, known, messages
from pipeline.config.model import Config
from pipeline.supervise.supervision import Supervision, tell_end, tell_failure

log = logging.getLogger("pipeline")


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
