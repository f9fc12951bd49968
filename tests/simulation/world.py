"""What a simulated history shares: chance, the weather, the journal, and what was found wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import attrs
import trio

from pipeline.records.record import TopicPartition
from tests.simulation.refusals import Refusals


@attrs.define
class Weather:
    """How often things go wrong, as probabilities of each call; times in seconds."""

    error: float = 0.0
    """A transaction fails with an SQLSTATE."""
    lost: float = 0.0
    """The answer of a transaction is lost: it was committed, was not, or is still to come."""
    slow: float = 0.0
    """A transaction takes seconds."""
    cancel_commits: float = 0.0
    """A transaction whose client was cancelled is committed all the same."""
    refused: float = 0.0
    """Kafka refuses a commit of offsets, or takes it and its answer is lost."""

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        self.error = self.lost = self.slow = self.cancel_commits = self.refused = 0.0


class Journal:
    """What happened, in order, with the virtual time. Formatted only when it is read."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, str, tuple[object, ...]]] = []

    def note(self, text: str, *details: object) -> None:
        """Note an event; ``text`` is a %-format of the details."""
        self._entries.append((trio.current_time(), text, details))

    def __str__(self) -> str:
        return "\n".join(f"{at:9.4f}  {text % details}" for at, text, details in self._entries)


@attrs.define
class World:
    """One history's surroundings."""

    seed: int
    rng: random.Random
    weather: Weather = attrs.field(factory=Weather)
    journal: Journal = attrs.field(factory=Journal)
    violations: list[str] = attrs.field(factory=list)
    dead_letters: set[tuple[TopicPartition, int]] = attrs.field(factory=set)
    marks: Counter[str] = attrs.field(factory=Counter)
    refusals: Refusals = attrs.field(init=False)

    @refusals.default
    def _drawn(self) -> Refusals:
        return Refusals.of(self.seed)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def mark(self, what: str) -> None:
        """A rare path was taken: counted, so that a test can demand that it is."""
        self.marks[what] += 1

    def violated(self, law: str) -> None:
        """A law does not hold: noted, and told at the history's end."""
        self.journal.note("LAW BROKEN: %s", law)
        self.violations.append(law)


class Gate:
    """Open, or closed for a while: what passes through waits."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._open.set()

    @property
    def closed(self) -> bool:
        return not self._open.is_set()

    def close(self) -> None:
        if self._open.is_set():
            self._open = trio.Event()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        """Wait until it is open; a checkpoint only where it is closed."""
        while not self._open.is_set():
            await self._open.wait()


def tasks_below(task: trio.lowlevel.Task, depth: int = 0) -> Iterator[str]:
    """Every task of a tree, a line each: its name, and the frames that it waits in."""
    frames = [
        f"{frame.f_code.co_name}:{line}"
        for frame, line in task.iter_await_frames()
        if "/trio/" not in frame.f_code.co_filename
    ]
    yield f"{'  ' * depth}{task.name}: {' > '.join(frames[-6:])}"
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda child: child.name):
            yield from tasks_below(child, depth + 1)


def waiting_tasks() -> str:
    """What each task of this run waits for, as indented lines."""
    root = trio.lowlevel.current_root_task()
    assert root is not None, "called within a run"
    return "\n".join(tasks_below(root))
