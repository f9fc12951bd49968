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
from pathlib import Path
from typing import TextIO

_found: ContextVar[list[str] | None] = ContextVar("_found", default=None)
_FORGOTTEN = r"coroutine '.*' was never awaited"


class NotAwaited(Exception):
    """Raised for a handler that called an async function and did not await what it gave back.

    Attributes:
        without_values: what it says: names, and no value of a record.
    """

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}: what it would have done was not done; write await")
        self.without_values = str(self)


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
            found = forgotten[0]
            forgotten.clear()
            raise NotAwaited(found)

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

    def hear(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        found = _found.get()
        text = str(message).splitlines()[0] if str(message) else ""
        if found is not None and category is RuntimeWarning and text.endswith("was never awaited"):
            found.append(text + _place(filename, lineno))
        else:
            show(message, category, filename, lineno, file, line)

    hear.of_handlers = True  # type: ignore[attr-defined]
    # Always: by default Python shows a warning once for each line that gives rise to it.
    warnings.filterwarnings("always", _FORGOTTEN, RuntimeWarning)
    warnings.showwarning = hear


def _place(filename: str, line: int) -> str:
    """Where a coroutine was freed, if that is in the handler: where it was made, nearly always."""
    ours = Path(filename).is_relative_to(Path(__file__).parent)
    return "" if ours else f" ({filename}, line {line})"
