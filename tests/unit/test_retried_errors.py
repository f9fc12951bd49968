"""What Kafka refuses again and again is told when it begins, and then once per minute."""

from __future__ import annotations

import logging

import pytest
import trio
from kafka.errors import CoordinatorNotAvailableError, NotCoordinatorError
from trio.testing import MockClock

from pipeline.kafka.retried_errors import RetriedErrors


async def test_the_same_error_is_told_once_per_minute_and_another_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    del autojump_clock
    retried = RetriedErrors()
    for _ in range(100):
        retried.tell("offsets were not committed", NotCoordinatorError(), of="t-0 7")
        await trio.sleep(1.0)
    retried.tell("offsets were not committed", CoordinatorNotAvailableError())
    retried.tell("polling Kafka failed, trying again", NotCoordinatorError())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4
    assert told[0].startswith("offsets were not committed: ")
    assert told[0].endswith(" (t-0 7)")
    assert told[1].endswith(" (t-0 7; 61 times within 60 s)")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
