"""Find a user's handler by its name."""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import iscoroutinefunction

from pipeline.errors import PipelineError
from pipeline.postgres.handlers.applier import Handler


def load_handler(name: str) -> Handler:
    """Import the handler ``package.module:function``. Modules in the working directory are found too.

    Raises:
        PipelineError: it can't be imported, or is not an async function.
    """
    module_name, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        handler = getattr(import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"[sink] handler {name!r} can't be loaded: {error}") from error
    if not iscoroutinefunction(handler):
        raise PipelineError(f"[sink] handler {name!r} must be an async function")
    result: Handler = handler
    return result
