"""When a consumer has started, for systemd, and how it is."""

from __future__ import annotations

import pytest

from pipeline.contracts.snapshot import PartitionSnapshot, Phase
from pipeline.observe.health import ProgressWatch
from pipeline.records.record import TopicPartition
from pipeline.supervise.consumer import ConsumerStanding


def partition(
    number: int, phase: Phase = Phase.RUNNING, *, answers: bool = True
) -> PartitionSnapshot:
    return PartitionSnapshot(
        TopicPartition("t", number), phase=phase, answers=answers, message_lag=number
    )


@pytest.fixture
def found() -> list[PartitionSnapshot]:
    """The assigned partitions, for a test to change."""
    return []


@pytest.fixture
def health() -> ProgressWatch:
    return ProgressWatch(lambda: 0.0, lambda: "")


Clock = list[float]


@pytest.fixture
def now() -> Clock:
    return [0.0]


@pytest.fixture
def standing(health: ProgressWatch, found: list[PartitionSnapshot], now: Clock) -> ConsumerStanding:
    return ConsumerStanding(
        health, lambda: found, lambda: 500, spare_seconds=15, clock=lambda: now[0]
    )


def test_a_consumer_has_started_when_each_of_its_partitions_is_served(
    standing: ConsumerStanding, health: ProgressWatch, found: list[PartitionSnapshot]
) -> None:
    assert standing.starting() == "the consumer group has not been joined yet"
    health.joined()
    found[:] = [partition(0), partition(1, Phase.OPENING)]
    assert standing.starting() == "taking over 1 of 2 partitions"
    found[:] = [partition(0), partition(1)]
    assert standing.starting() is None


def test_a_database_that_is_away_holds_up_its_own_partitions_only(
    standing: ConsumerStanding, health: ProgressWatch, found: list[PartitionSnapshot]
) -> None:
    health.joined()
    found[:] = [partition(0), partition(1, Phase.OPENING, answers=False)]
    assert standing.starting() is None
    assert "1 wait for their database" in standing.status()
    found[:] = [partition(0, Phase.OPENING, answers=False)]
    assert standing.starting() == "no database of the 1 partitions here answers"


def test_a_spare_has_started_when_others_had_the_time_to_hand_partitions_over(
    standing: ConsumerStanding, health: ProgressWatch, found: list[PartitionSnapshot], now: Clock
) -> None:
    health.joined()
    assert standing.starting() is not None
    now[0] = 14.0
    assert standing.starting() is not None
    found[:] = [partition(0, Phase.OPENING)]
    assert standing.starting() == "taking over 1 of 1 partitions"
    found.clear()
    now[0] = 20.0
    assert standing.starting() is not None, "the time begins anew"
    now[0] = 35.0
    assert standing.starting() is None
    assert standing.status() == "no partitions: spare"
