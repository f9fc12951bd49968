"""What the commands share: the configuration, errors as messages, the running of Trio."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator

import trio

from pipeline.config import Config, ConfigError, load
from pipeline.store import PipelineError


def add_config(parser: argparse.ArgumentParser) -> None:
    """The option that nearly every command has."""
    parser.add_argument("--config", required=True, metavar="FILE", help="the configuration (TOML)")


def loaded(path: str) -> Config | None:
    """The configuration; None, with its mistakes on standard error, where it has any."""
    try:
        return load(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None


def messages(error: BaseException) -> Iterator[str]:
    """The causes in an exception, each told once; an exception group is flattened."""
    told = set()
    for cause in _causes(error):
        if isinstance(cause, PipelineError):
            message, alike = str(cause), cause.cause
        else:
            message = alike = f"{type(cause).__name__}: {cause}"
        if alike not in told:
            told.add(alike)
            yield message


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for cause in error.exceptions:
            yield from _causes(cause)
    elif not isinstance(error, trio.Cancelled):
        yield error


def known(error: BaseException) -> bool:
    """Whether an exception holds nothing but errors that explain themselves."""
    if isinstance(error, BaseExceptionGroup):
        return all(known(cause) for cause in error.exceptions)
    return isinstance(error, PipelineError | trio.Cancelled | KeyboardInterrupt)


def report(error: BaseException) -> None:
    """Print what ended a program, for a person."""
    for message in messages(error):
        print(f"pipeline: {message}", file=sys.stderr)


def spare_the_collector() -> None:
    """Let Python's cycle collector run a hundred times less often.

    A buffered record is several containers, none of them in a cycle: reference counting frees them,
    and at its usual thresholds the collector walks through all that wait, again and again. That was
    a quarter of the consumer's CPU (docs/design/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def run_service(config: Config, log_level: str) -> int:
    """Run the consumer; its exit code."""
    # Imported here: the other commands need not wait for what only this one needs.
    import logging

    from pipeline.observe.logging import configure_logging
    from pipeline.service import run

    configure_logging(log_level.upper())
    spare_the_collector()
    try:
        trio.run(run, config)
    except (Exception, BaseExceptionGroup) as error:  # the program's end: told, never swallowed
        if not known(error):
            logging.getLogger("pipeline").exception("an error that the pipeline does not know")
        report(error)
        return 1
    return 0
