"""Answer all questions but `bench.sync_async`, one after the other, and write every file of results.

The sizes are chosen so that all of it takes about 40 minutes on 2 cores, without the one-time builds of
the peers. Nothing else should run on the machine meanwhile. A question that fails does not stop the
others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
EXAMPLE = "example: python -m bench.all --results bench/results --only latency idle"

QUESTIONS: Mapping[str, Sequence[str]] = {
    "throughput": ("--records=500000", "--rounds=3"),
    "delivery": ("--records=500000", "--rounds=3"),
    "deduplication": ("--records=500000", "--rounds=3"),
    "metrics": ("--records=500000", "--rounds=3"),
    "handlers": ("--records=100000", "--rounds=2"),
    "latency": (),
    "idle": (),
    "http": (),
    "ingest": (),
    "channels": ("--records=500000", "--rounds=3"),
    "handover": (),
    "adaptive": ("--records=500000", "--rounds=3"),
    "isolation": (),
    "incident": (),
    "hot_key": (),
    "contention": (),
    "growth": ("--records=300000", "--rounds=1"),
    "compare": ("--two", "--records=500000", "--rounds=2"),
}
"""The questions and the sizes at which they are measured."""


def command(name: str, results: Path) -> list[str]:
    """Return the command that answers a question and writes its file of results."""
    return [
        sys.executable,
        "-m",
        f"bench.{name}",
        *QUESTIONS[name],
        f"--json={results / name}.json",
    ]


def answered(name: str, results: Path) -> bool:
    """Answer a question in a process of its own; return whether it succeeded."""
    called = command(name, results)
    print(f"\n== {' '.join(called[1:])}", flush=True)
    started = time.monotonic()
    done = subprocess.run(called, check=False)
    took = time.monotonic() - started
    print(f"== {name}: exit code {done.returncode} after {took:.0f} s", flush=True)
    return done.returncode == 0


def written(results: Path, since: float) -> list[Path]:
    """Return the files of a directory that were written since a time (seconds since the epoch)."""
    return sorted(file for file in results.iterdir() if file.stat().st_mtime >= since)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer all questions; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.all", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIRECTORY",
        help="where the files go (default: bench/results)",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS), metavar="NAME",
        help=f"some of them: {', '.join(QUESTIONS)}",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    started = time.time()
    failed = [name for name in options.only if not answered(name, options.results)]
    print(f"\nafter {(time.time() - started) / 60:.0f} minutes, written:")
    for file in written(options.results, started):
        print(f"  {file}")
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
