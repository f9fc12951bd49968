"""Dead letters that their topic does not take: others go on, each minute tells, what is mended heals."""

# ruff: noqa: ARG001, ARG002 (the clock is asked for to be in force; fakes ignore much)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from kafka.errors import (
    InvalidRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)
from trio.testing import MockClock

from pipeline.errors import PipelineError
from pipeline.kafka.dead_letters import DeadLetterTopic
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from tests.support.records import SOURCE, Raw

REASON = DeadLetterReason("no", "Error")
Refuse = Callable[[dict[str, Any]], Exception | None]


class Producer:
    """Refuses as ``refuse`` says; knows by the header which offset it was sent."""

    def __init__(self, refuse: Refuse) -> None:
        self.refuse = refuse
        self.attempts: list[tuple[float, int]] = []
        self.kept: dict[int, dict[str, Any]] = {}

    async def send(self, topic: str, *, alone: bool = False, **message: Any) -> None:
        await trio.lowlevel.checkpoint()
        offset = offset_of(message)
        self.attempts.append((trio.current_time(), offset))
        if error := self.refuse(message):
            raise error
        self.kept[offset] = message


def offset_of(message: dict[str, Any]) -> int:
    return int(dict(message["headers"])["__connect.errors.offset"])


def refusing(error: Exception, *offsets: int) -> Refuse:
    return lambda message: error if not offsets or offset_of(message) in offsets else None


def letters_of(producer: Producer) -> DeadLetterTopic:
    return DeadLetterTopic(producer, "dead", "group", 10_000)  # type: ignore[arg-type]


def record(offset: int) -> Record:
    return Record(SOURCE, offset, Raw(offset, b"k", b"v"), None, "k")


def told(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if text in each.getMessage()]


async def test_a_letter_that_is_refused_in_every_form_stops_no_other_and_is_told_each_minute(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    producer = Producer(refusing(MessageSizeTooLargeError(), 3))
    letters = letters_of(producer)
    nursery.start_soon(letters.tell_waiting)
    for offset in range(6):
        nursery.start_soon(letters.put, record(offset), REASON)
    await trio.sleep(1)
    assert sorted(producer.kept) == [0, 1, 2, 4, 5]
    assert letters.waiting == 1
    await trio.sleep(301)
    assert len(told(caplog, "offset 3 is not among the dead letters yet")) == 1
    minutes = told(caplog, "1 dead letter waits")
    assert len(minutes) == 5
    assert "sessions-0 offset 3" in minutes[-1]
    assert "raise max.message.bytes of the topic" in minutes[-1]
    producer.refuse = lambda _: None
    await trio.sleep(11)
    assert producer.kept[3]["value"] == b"v", "what was mended is mended for the whole letter"
    assert letters.waiting == 0
    assert told(caplog, "the dead letter topic dead takes records again")


async def test_hundreds_that_wait_for_one_reason_are_one_line_and_few_attempts_and_heal_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    producer = Producer(refusing(TopicAuthorizationFailedError()))
    letters = letters_of(producer)
    nursery.start_soon(letters.tell_waiting)
    for offset in range(200):
        nursery.start_soon(letters.put, record(offset), REASON)
    await trio.sleep(300.5)
    assert letters.waiting == 200
    assert len(told(caplog, "not among the dead letters yet")) == 1
    assert len(told(caplog, "200 dead letters wait")) == 5
    assert "grant Write on topic dead" in told(caplog, "200 dead letters wait")[0]
    lately = [offset for at, offset in producer.attempts if at > trio.current_time() - 100]
    assert 10 <= len(lately) <= 150, "not 200 each 10 s"
    assert len(set(lately)) > 3, "not always the same"
    producer.refuse = lambda _: None
    await trio.sleep(11)
    assert len(producer.kept) == 200


async def test_each_reason_is_told_by_itself(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    errors = {1: InvalidRecordError("no schema"), 2: MessageSizeTooLargeError()}
    producer = Producer(lambda message: errors.get(offset_of(message)))
    letters = letters_of(producer)
    nursery.start_soon(letters.tell_waiting)
    for offset in range(3):
        nursery.start_soon(letters.put, record(offset), REASON)
    await trio.sleep(61)
    one, other = sorted(told(caplog, "1 dead letter waits"))
    assert "refuses it in every form ([Error 87] InvalidRecordError" in one
    assert "cleanup.policy=delete" in one
    assert "max.message.bytes" in other


async def test_one_that_is_given_up_waits_no_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    letters = letters_of(Producer(refusing(TopicAuthorizationFailedError())))
    with trio.move_on_after(5):
        await letters.put(record(1), REASON)
    assert letters.waiting == 0


@pytest.mark.parametrize("error", [UnsupportedVersionError(), TypeError("no bytes")])
async def test_what_nothing_can_mend_ends_the_program(
    autojump_clock: MockClock, error: KafkaError | TypeError
) -> None:
    letters = letters_of(Producer(refusing(error)))
    with pytest.raises(PipelineError, match="sessions-0 offset 1 can't be kept"):
        await letters.put(record(1), REASON)
    assert letters.waiting == 0
