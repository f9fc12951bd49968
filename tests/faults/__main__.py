"""Reproduce every kind of fault again: ``python -m tests.faults [NAME ...]``, a line each.

The exit code is 1 if one does not hold. Needs what the real tests need (deploy/setup --test-servers);
it takes about ten minutes.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

import pytest

from tests.faults.table import FAULTS, Fault


class Outcomes:
    """A pytest plugin: what came of each test, by its name without parameters."""

    def __init__(self) -> None:
        self.by_test: dict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what decides: the call, or what kept it from being made."""
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("[")[0].removeprefix("tests/")
            self.by_test[name].append(report.outcome)

    def of(self, fault: Fault) -> list[str]:
        """The outcomes of all its tests, parameters included; a test that did not run counts too."""
        found: list[str] = []
        for test in fault.tests:
            place = test.removesuffix("*")
            whole = test.endswith("*")
            named = [
                name for name in self.by_test if name == test or (whole and name.startswith(place))
            ]
            found += [each for name in named for each in self.by_test[name]] or ["not run"]
        return found


def main(names: Sequence[str]) -> int:
    """Run the tests of the faults with these names, or of all; return the exit code."""
    every = [fault for faults in FAULTS.values() for fault in faults]
    unknown = set(names) - {fault.name for fault in every}
    if unknown:
        print(f"no such fault: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    wanted = [fault for fault in every if not names or fault.name in names]
    outcomes = Outcomes()
    tests = dict.fromkeys(
        f"tests/{test.removesuffix('::*')}" for each in wanted for test in each.tests
    )
    pytest.main(["--tb=short", "-p", "no:cacheprovider", *tests], plugins=[outcomes])
    return report(wanted, outcomes)


def report(wanted: Sequence[Fault], outcomes: Outcomes) -> int:
    """Print a line per fault; return how the command ends."""
    failed = 0
    print()
    for fault in wanted:
        found = outcomes.of(fault)
        holds = all(outcome == "passed" for outcome in found)
        failed += not holds
        count = f"{len(found)} test{'' if len(found) == 1 else 's'}"
        told = count if holds else ", ".join(sorted(set(found)))
        print(f"{'holds' if holds else 'NOT':5}  {fault.name:22} {fault.holds} ({told})")
    print(f"\n{len(wanted) - failed} of {len(wanted)} hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
