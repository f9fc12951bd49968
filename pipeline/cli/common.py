"""What the commands share: loading the configuration, exit codes, errors as messages."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import cast

import attrs
import trio

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from pipeline.config.model import Config, LogLevel
from pipeline.errors import PipelineError, UsageError


def load_at_level(path: str, level: str | None) -> Config:
    """Load a configuration; the level of the log is ``level`` if the command line gave one.

    Raises:
        ConfigError: see `load`.
    """
    config = load(path)
    if level is None:
        return config
    return attrs.evolve(config, log=attrs.evolve(config.log, level=cast(LogLevel, level)))


def print_mistakes(error: ConfigError) -> None:
    """Print what is wrong with a configuration on standard error, a line each."""
    print(error, file=sys.stderr)


def with_config(
    path: str,
    work: Callable[[Config], int],
    tell_mistakes: Callable[[ConfigError], None] = print_mistakes,
) -> int:
    """Load a configuration, do a command's work with it, and return the exit code.

    The code is the one that ``work`` returns; 2, with the mistakes told, if the configuration has any,
    or if what was given does not fit the servers; 1, with a message on standard error, if ``work``
    raises another error that explains itself. kafka-python logs nothing meanwhile: the message says
    what matters.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    return explaining(lambda: work(load(path)), tell_mistakes)


def explaining(
    work: Callable[[], int], tell_mistakes: Callable[[ConfigError], None] = print_mistakes
) -> int:
    """Do a command's work and return the exit code, also where it raises what explains itself.

    That is 2 for mistakes in the configuration, which are told, and otherwise what `exit_code` says,
    with a message on standard error.
    """
    try:
        return work()
    except ConfigError as error:
        tell_mistakes(error)
        return 2
    except (PipelineError, BaseExceptionGroup) as error:
        if not known(error):
            raise
        report(error)
        return exit_code(error)


def messages(error: BaseException) -> Iterator[str]:
    """Yield a message for each cause in an exception, each once; groups are flattened."""
    seen = set()
    for cause in _causes(error):
        if isinstance(cause, PipelineError):
            message, alike = str(cause), cause.cause
        else:
            message = alike = f"{type(cause).__name__}: {cause}"
        if alike not in seen:
            seen.add(alike)
            yield message


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for cause in error.exceptions:
            yield from _causes(cause)
    elif not isinstance(error, trio.Cancelled):
        yield error


def exit_code(error: BaseException) -> int:
    """Return 2 if all that went wrong is a mistake in what was given, else 1."""
    causes = list(_causes(error))
    return 2 if causes and all(isinstance(cause, UsageError) for cause in causes) else 1


def known(error: BaseException) -> bool:
    """Return whether an exception consists of errors that explain themselves."""
    if isinstance(error, BaseExceptionGroup):
        return all(known(cause) for cause in error.exceptions)
    return isinstance(error, PipelineError | trio.Cancelled | KeyboardInterrupt)


def report(error: BaseException) -> None:
    """Print what ended the program on standard error, one line per cause."""
    for message in messages(error):
        print(f"pipeline: {message}", file=sys.stderr)
