"""The programs that run in the pipeline's own environment: the pipeline and the bare loops."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench.harness.drain import Commands, Job
from bench.subjects.configuration import configuration, written

PIPELINE = "pipeline"
BARE_LOOP = "bare loop"
FAST_LOOP = "bare loop, fast"
ENTRY = ("-m", "pipeline")


def pipeline(
    job: Job, *, processes: int = 1, entry: Sequence[str] = ENTRY, **changes: Any
) -> list[list[str]]:
    """Return the command of ``pipeline run``: exactly once, in order per key, with metrics.

    Args:
        job: what is drained.
        processes: how many instances share the work.
        entry: what Python executes.
        changes: what the configuration has otherwise, see `configuration`.
    """
    file = written(job, configuration(job, **changes))
    command = [sys.executable, *entry, "run", "--config", str(file), "--log-level", "warning"]
    return [command] * processes


def bare_loop(job: Job, *, fast: bool = False) -> list[list[str]]:
    """Return the command of `bench.subjects.bare_loop`."""
    command = [sys.executable, "-m", "bench.subjects.bare_loop", *job.arguments()]
    return [command + ["--fast"] * fast]


def python_module(module: str, *options: str) -> list[str]:
    """Return the command of a module with a main function."""
    return [sys.executable, "-m", module, *options]


PROGRAMS: dict[str, Commands] = {
    BARE_LOOP: bare_loop,
    FAST_LOOP: partial(bare_loop, fast=True),
    PIPELINE: pipeline,
}
"""What `bench.throughput` compares; the pipeline comes last."""
