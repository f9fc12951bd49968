"""Search for a history that breaks a law: ``python -m tests.simulation.search --minutes 10``.

Prints the seed and the journal of the first failure, and exits with 1; 0 where none was found.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.simulation.history import run_history


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run simulated histories until one breaks a law, or the time is over.",
        epilog="example: python -m tests.simulation.search --minutes 10 --seed 100000",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to search")
    parser.add_argument("--seed", type=int, help="the first seed; the next ones follow it")
    options = parser.parse_args()
    first = random.randrange(10**6, 10**9) if options.seed is None else options.seed
    end = time.monotonic() + options.minutes * 60
    seed = first
    while time.monotonic() < end or seed == first:
        outcome = run_history(seed)
        if outcome.violations:
            print(outcome)
            return 1
        seed += 1
        if (seed - first) % 100 == 0:
            print(f"seeds {first} to {seed - 1}: all laws hold", file=sys.stderr)
    print(f"seeds {first} to {seed - 1}: all laws hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
