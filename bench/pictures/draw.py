"""Pictures of results, drawn by the peers' environment: the pipeline doesn't need matplotlib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.subjects.peers import environment


def draw(plot: str, source: Path, target: Path) -> None:
    """Draw a file of results by a module of this package; only say so if that can't be.

    Raises:
        CalledProcessError: the module failed.
    """
    try:
        python = environment.python()
    except environment.BuildFailed as problem:
        print(f"no picture: {problem}", file=sys.stderr)
        return
    module = f"bench.pictures.{plot}"
    subprocess.run([str(python), "-m", module, str(source), str(target)], check=True)
    print(f"wrote {target}", flush=True)
