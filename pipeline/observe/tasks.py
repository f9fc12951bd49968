"""The running task tree as text: what each task is, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator

import trio


def describe_tasks() -> str:
    """Every Trio task below the root, indented by nursery, with the place where it stands."""
    root = trio.lowlevel.current_root_task()
    return "\n".join(_lines(root, 0)) if root is not None else ""


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
    return " > ".join(shown[-4:]) or "running"
