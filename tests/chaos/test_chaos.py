"""Real servers, really broken: every record is applied exactly once and in order all the same."""

from __future__ import annotations

import random

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.stage import Stage
from tests.support import accounts

pytestmark = [pytest.mark.real, pytest.mark.chaos]

KEYS = 200
PER_SECOND = 800


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_under_load_changes_nothing(stage: Stage, name: str) -> None:
    choose = random.Random(name)
    with stage.job.load(accounts.changes(1_000_000, KEYS, seed=1), PER_SECOND):
        stage.wait_for_progress()
        FAULTS[name](stage, choose)
        stage.wait_for_progress()
    stage.job.wait_caught_up()
    assert stage.differences() == []
    assert [instance.stop() for instance in stage.instances] == [0, 0]
