"""The running process as text: every task and what it waits for, every thread and where it is."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator

import trio

FRAMES = 4
"""How many frames are shown per task or thread: the innermost ones."""


def describe_process() -> str:
    """Every Trio task, as a tree, then every thread. Within Trio; not a checkpoint."""
    return f"{describe_tasks()}\n{describe_threads()}"


def describe_tasks() -> str:
    """Every Trio task below the root, indented by nursery, with the place where it stands."""
    root = trio.lowlevel.current_root_task()
    return "\n".join(_lines(root, 0)) if root is not None else ""


def describe_threads() -> str:
    """Every thread, with the place where it is: kafka-python's loop and the polls run on their own.

    From `sys._current_frames`, which is how CPython shows other threads.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sorted(sys._current_frames().items()):
        stack = traceback.extract_stack(frame)[-FRAMES:]
        shown = " > ".join(f"{each.name}:{each.lineno}" for each in stack)
        lines.append(f"thread {names.get(ident, ident)}: {shown}")
    return "\n".join(lines)


def _lines(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{task.name}: {_waits_at(task)}"
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda each: each.name):
            yield from _lines(child, depth + 1)


def _waits_at(task: trio.lowlevel.Task) -> str:
    """The innermost frames that are not Trio's own."""
    frames = [
        (frame.f_globals.get("__name__", ""), frame.f_code.co_name, line)
        for frame, line in task.iter_await_frames()
    ]
    shown = [f"{name}:{line}" for module, name, line in frames if not module.startswith("trio.")]
    return " > ".join(shown[-FRAMES:]) or "running"
