"""A log that repeats itself is condensed; what it says is not lost."""

from __future__ import annotations

import io
import logging

import pytest

from pipeline.observe.condense import MOST_KEPT, Condense
from pipeline.observe.logging import configure_logging


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def filtered(clock: Clock) -> Condense:
    return Condense("kafka", period=60, clock=clock)


def passed(
    condense: Condense, name: str, message: str, *args: object, level: int = logging.ERROR
) -> str | None:
    """The message as it comes through; None where it is left out."""
    record = logging.LogRecord(name, level, __file__, 1, message, args, None)
    return record.getMessage() if condense.filter(record) else None


def test_a_message_comes_once_in_a_period_and_then_says_how_often_it_came(
    filtered: Condense, clock: Clock
) -> None:
    shown = [passed(filtered, "kafka.net", "lost %s", number) for number in range(50)]
    assert shown == ["lost 0"] + [None] * 49
    clock.now += 59.9
    assert passed(filtered, "kafka.net", "lost %s", "x") is None
    clock.now += 0.1
    assert passed(filtered, "kafka.net", "lost %s", "y") == "lost y (50 more like it in 60 s)"
    clock.now += 60
    assert passed(filtered, "kafka.net", "lost %s", "z") == "lost z"


def test_other_messages_levels_and_loggers_come_through(filtered: Condense) -> None:
    assert passed(filtered, "kafka.net", "lost") == "lost"
    assert passed(filtered, "kafka.net", "found") == "found"
    assert passed(filtered, "kafka.net", "lost", level=logging.WARNING) == "lost"
    assert passed(filtered, "kafka.cluster", "lost") == "lost"
    assert passed(filtered, "kafka", "lost") == "lost"
    assert passed(filtered, "kafka.net", "lost") is None


def test_messages_that_differ_in_numbers_are_alike(filtered: Condense) -> None:
    assert passed(filtered, "kafka.net", "attempt 1 failed (backoff 0.05 s)") is not None
    assert passed(filtered, "kafka.net", "attempt 2 failed (backoff 0.12 s)") is None


def test_other_loggers_are_left_alone(filtered: Condense) -> None:
    for name in ("pipeline.service", "kafkaesque"):
        assert [passed(filtered, name, "again") for _ in range(3)] == ["again"] * 3


def test_what_is_remembered_is_bounded(filtered: Condense) -> None:
    for number in range(2 * MOST_KEPT):
        assert passed(filtered, "kafka.net", "x" * number) is not None
    assert len(filtered._told) <= MOST_KEPT


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("level", "lines"), [("INFO", 1), ("DEBUG", 20)])
def test_what_kafka_python_repeats_is_condensed_unless_all_is_wanted(
    level: str, lines: int
) -> None:
    stream = io.StringIO()
    configure_logging(level, stream=stream)
    for number in range(20):
        logging.getLogger("kafka.net.manager").error("Connection failed: %s", number)
    assert len(stream.getvalue().splitlines()) == lines
