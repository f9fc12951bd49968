"""Find a user's handler by its name."""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import iscoroutinefunction, signature
from pathlib import Path

from pipeline.errors import UsageError, one_line
from pipeline.postgres.handlers.applier import Handler


def load_handler(name: str, beside: Path | None = None) -> Handler:
    """Import the handler ``package.module:function``.

    Modules are found in the working directory, then beside the configuration, then where Python finds
    all others.

    Args:
        name: the handler, as it is configured.
        beside: the configuration file; None if it is no file.

    Raises:
        UsageError: it can't be imported, is not an async function, or does not take two arguments.
    """
    module_name, _, function = name.partition(":")
    places = ["", *([str(beside.resolve().parent)] if beside else [])]
    sys.path[:0] = [place for place in places if place not in sys.path]
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        looked = f", nor beside {beside}" if beside else ""
        where = f" (not in the working directory {Path.cwd()}{looked})"
        missing = where if error.name == module_name.partition(".")[0] else ""
        raise UsageError(f"[sink] handler {name!r} can't be loaded: {error}{missing}") from error
    except Exception as error:  # a user's module may raise anything when it is imported
        raise UsageError(f"[sink] handler {name!r} can't be imported: {one_line(error)}") from error
    handler = getattr(module, function, None)
    if handler is None:
        raise UsageError(
            f"[sink] handler {name!r} can't be loaded: module {module_name!r} "
            f"({module.__file__}) has no function {function!r}"
        )
    if not iscoroutinefunction(handler):
        raise UsageError(f"[sink] handler {name!r} must be an async function")
    try:
        signature(handler).bind(None, ())
    except TypeError as error:
        raise UsageError(
            f"[sink] handler {name!r} must take two arguments, the transaction and the records; "
            f"it is {function}{signature(handler)}"
        ) from error
    result: Handler = handler
    return result
