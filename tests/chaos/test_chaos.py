"""Real servers, really broken: every record is applied exactly once and in order all the same."""

from __future__ import annotations

import random
import signal

import pytest

from tests.chaos.faults import FAULTS, SESSION_TIMEOUT, lasting
from tests.chaos.stage import Stage
from tests.support import accounts

pytestmark = [pytest.mark.real, pytest.mark.chaos, pytest.mark.slow]

KEYS = 200
PER_SECOND = 800

PLAYS = {
    "instances": ("kill_instance", "freeze_instance", "stop_instance"),
    "the way to Postgres": ("cut_postgres", "half_close_postgres", "slow_postgres"),
    "Postgres": ("terminate_backends", "restart_postgres", "kill_postgres"),
    "the way to Kafka": ("cut_kafka", "lose_kafka"),
    "Kafka": ("restart_kafka", "kill_kafka"),
}
"""Together with the tests below, every fault that there is but `slow_kafka`, which the soak has."""


def check(stage: Stage) -> None:
    """Every row is as the topic says, and both instances still end cleanly."""
    stage.job.wait_caught_up()
    assert stage.differences() == []
    assert [instance.stop() for instance in stage.instances] == [0, 0]


@pytest.mark.parametrize("play", PLAYS)
def test_faults_under_load_change_nothing(stage: Stage, play: str) -> None:
    choose = random.Random(play)
    with stage.job.load(accounts.changes(1_000_000, KEYS, seed=1), PER_SECOND):
        stage.wait_for_progress()
        for name in PLAYS[play]:
            FAULTS[name](stage, choose)
            stage.wait_for_progress()
    check(stage)


def test_a_write_whose_answer_was_lost_is_settled_by_the_ledger(stage: Stage) -> None:
    with stage.job.load(accounts.changes(1_000_000, KEYS, seed=2), PER_SECOND):
        stage.wait_for_progress()
        FAULTS["lose_answers"](stage, random.Random(2))
        stage.wait_for_progress()
    check(stage)
    assert any("the ledger says applied" in instance.output for instance in stage.instances)


def test_a_write_that_arrives_after_the_partition_has_moved_is_fenced(stage: Stage) -> None:
    sleeper, other = stage.instances
    with stage.job.load(accounts.changes(1_000_000, KEYS, seed=3), PER_SECOND):
        stage.wait_for_progress()
        # What is sent now stays on its way for longer than the session lasts.
        stage.servers.postgres_proxy.delay(2 * SESSION_TIMEOUT)
        lasting(0.5)
        sleeper.signal(signal.SIGSTOP)
        stage.servers.postgres_proxy.delay(0)
        stage.job.wait_until(lambda: other.output.count("assigned: ") > 1, "the partitions move")
        stage.wait_for_progress()
        lasting(SESSION_TIMEOUT)  # until what was on its way has arrived
        sleeper.signal(signal.SIGCONT)
        stage.job.wait_until(lambda: "lost: " in sleeper.output, "it learns that it was away")
        stage.wait_for_progress()
    check(stage)
