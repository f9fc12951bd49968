"""The table of faults names tests that there are, and tells by their outcomes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.__main__ import Outcomes, report
from tests.faults.table import FAULTS, Fault

TESTS = Path(__file__).parents[1]
EVERY = [fault for faults in FAULTS.values() for fault in faults]


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: str(fault.name))
def test_each_fault_is_reproduced_by_tests_that_exist(fault: Fault) -> None:
    assert fault.tests
    for test in fault.tests:
        place, _, name = test.partition("::")
        source = (TESTS / place).read_text()
        assert name == "*" or re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), test


def test_names_are_given_once() -> None:
    assert len({fault.name for fault in EVERY}) == len(EVERY)


@pytest.mark.parametrize(
    ("found", "code", "told"),
    [
        ({"a.py::test_a": ["passed", "passed"]}, 0, "holds  some"),
        ({"a.py::test_a": ["passed", "failed"]}, 1, "NOT    some"),
        ({"a.py::test_a": ["skipped"]}, 1, "NOT    some"),
        ({"b.py::test_a": ["passed"]}, 1, "(not run)"),
    ],
)
def test_what_failed_or_did_not_run_does_not_hold(
    found: dict[str, list[str]], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = Outcomes()
    outcomes.by_test.update(found)
    assert report([Fault("some", "it is so", ("a.py::test_a",))], outcomes) == code
    assert told in capsys.readouterr().out
