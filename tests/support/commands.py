"""Run a command of `pipeline` to its end, as a person would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs

from tests.support.pipelines import PATIENCE, ROOT


@attrs.frozen
class Outcome:
    """What a command gave: its exit code and both of its outputs."""

    code: int
    output: str
    errors: str


def command(*arguments: str | Path) -> Outcome:
    """Run a command that ends by itself, long before the patience does."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
