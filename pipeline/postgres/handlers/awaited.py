"""Find what a handler forgot to await.

A coroutine that is called and never awaited does nothing. In a handler it is a statement that is not
run, or a function of the user's own that is not called, while the offset would be committed: the
record would be lost. Python only warns (``coroutine 'f' was never awaited``), at the moment when the
coroutine is freed. That is in the midst of the call that made it, or at its end: so `listening`
listens for the warning meanwhile, and the applier makes an error of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_found: ContextVar[list[str] | None] = ContextVar("_found", default=None)
_FORGOTTEN = r"coroutine '.*' was never awaited"


class NotAwaited(Exception):
    """Raised for a handler that called an async function and did not await what it gave back."""


Check = Callable[[], None]


@contextmanager
def listening() -> Iterator[Check]:
    """Listen for coroutines that are never awaited, in this task and in those that it starts.

    Yields a function that raises `NotAwaited`, with the coroutine's name, if one was forgotten in the
    block so far. It is not a checkpoint.
    """
    _listen()
    forgotten: list[str] = []

    def check() -> None:
        if forgotten:
            message = forgotten[0]
            forgotten.clear()
            raise NotAwaited(f"{message}: what it would have done was not done; write await")

    token = _found.set(forgotten)
    try:
        yield check
    finally:
        _found.reset(token)


def _listen() -> None:
    """Put this module's function before the one that shows warnings, unless it is there already."""
    if getattr(warnings.showwarning, "of_handlers", False):
        return
    show = warnings.showwarning

    def hear(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        found = _found.get()
        text = str(message).splitlines()[0] if str(message) else ""
        if found is not None and category is RuntimeWarning and text.endswith("was never awaited"):
            found.append(text)
        else:
            show(message, category, *args, **kwargs)

    hear.of_handlers = True  # type: ignore[attr-defined]
    # Always: by default Python shows a warning once for each line that gives rise to it.
    warnings.filterwarnings("always", _FORGOTTEN, RuntimeWarning)
    warnings.showwarning = hear
