"""What the commands share: the configuration, errors as messages, the running of Trio."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import trio

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from pipeline.config.model import Config
from pipeline.errors import PipelineError


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


def run_service(config: Config, log_level: str) -> int:
    """Run the consumer; its exit code."""
    # Imported here: the other commands need not wait for what only this one needs.
    import logging

    from pipeline.observe.logging import configure_logging
    from pipeline.runtime.collector import spare_the_collector
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
