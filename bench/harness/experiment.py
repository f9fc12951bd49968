"""Programs that are measured in turn, round after round, on the same servers and topics.

Taking turns spreads whatever else the machine does over all programs: figures of one experiment can
be compared with each other, figures of different experiments can't.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs

from bench.harness.drain import Commands, Drained, drain
from bench.harness.report import HEADER, line
from bench.harness.topics import Load, Topics


@attrs.frozen
class Variant:
    """A program to measure, and on which load.

    Attributes:
        name: for people; each variant of an experiment has its own.
        commands: the program.
        load: what it drains.
        shards: how many databases it writes to.
        skip: the share of the records that are applied before the clock starts.
        patience: seconds after which it has failed.
        beside: what goes on around each run, such as a reader of its metrics.
    """

    name: str
    commands: Commands
    load: Load
    shards: int = 1
    skip: float = 0.0
    patience: float = 600.0
    beside: Callable[[], AbstractContextManager[Any]] = nullcontext


class Experiment:
    """Variants, and their runs so far."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self.variants = variants
        self.runs: dict[str, list[Drained]] = {variant.name: [] for variant in variants}

    def measure(self, topics: Topics, rounds: int) -> None:
        """Measure all variants in turn; print a line per run.

        Raises:
            DrainFailed: a program failed.
        """
        print(HEADER)
        for _ in range(rounds):
            for variant in self.variants:
                self.run(topics, variant)

    def run(self, topics: Topics, variant: Variant) -> None:
        """Measure one variant once.

        Raises:
            DrainFailed: the program failed.
        """
        topic = topics.of(variant.load)
        with variant.beside():
            run = drain(
                topics.servers, topic, variant.name, variant.commands,
                patience=variant.patience, shards=variant.shards, skip=variant.skip,
            )  # fmt: skip
        self.runs[variant.name].append(run)
        print(line(run), flush=True)

    def median(self, figure: str) -> dict[str, float]:
        """Return the medians of a figure of `Drained`, by variant; those without a run are left out."""
        return {
            name: statistics.median(getattr(run, figure) for run in runs)
            for name, runs in self.runs.items()
            if runs
        }

    @property
    def wrong(self) -> int:
        """Rows that differ from the model, in all runs together."""
        return sum(run.wrong for runs in self.runs.values() for run in runs)

    def as_json(self) -> list[dict[str, Any]]:
        """Return all runs, variant by variant, as JSON objects."""
        return [attrs.asdict(run) for runs in self.runs.values() for run in runs]
