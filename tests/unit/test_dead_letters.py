"""Dead letters: what they say, how many are allowed, and that none is lost."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import pytest
import trio
from kafka.errors import KafkaTimeoutError
from trio.testing import MockClock

from pipeline.errors import PipelineError
from pipeline.kafka.dead_letters import DeadLetterTopic, NoDeadLetters, headers_of
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from tests.support.records import SOURCE, Raw

REJECTION = DeadLetterReason("value out of range", "NumericValueOutOfRangeError", "22003", 3)


class FakeProducer:
    """Keeps what it is sent; fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[dict[str, Any]] = []
        self.failures = failures
        self.flushed = 0
        self.closed = False

    def send(self, topic: str, **message: Any) -> FakeProducer:
        self.message = {"topic": topic, **message}
        return self

    def flush(self, timeout: float) -> None:
        assert timeout < 60
        self.flushed += 1

    def get(self, timeout: float) -> None:
        """The future's: it is the producer itself."""
        assert timeout < 60
        if self.failures:
            self.failures -= 1
            raise KafkaTimeoutError("no broker answers")
        self.sent.append(self.message)

    def close(self, timeout: float) -> None:
        self.closed = timeout < 60


def letter(**raw: Any) -> Record:
    made = Raw(**{"offset": 7, "key": b"k", "value": b"v", **raw})
    return Record(SOURCE, made.offset, made, None, "k")


def topic(producer: Any, limit: int = 100) -> DeadLetterTopic:
    return DeadLetterTopic(producer, "sessions.dlq", "group", limit)


def test_headers_say_where_it_was_and_why_it_is_here() -> None:
    headers = dict(headers_of(letter(), REJECTION, "group"))
    failed_at = headers.pop("pipeline.failed-at").decode()
    assert headers == {
        "__connect.errors.topic": b"sessions",
        "__connect.errors.partition": b"0",
        "__connect.errors.offset": b"7",
        "__connect.errors.connector.name": b"group",
        "__connect.errors.exception.class.name": b"NumericValueOutOfRangeError",
        "__connect.errors.exception.message": b"value out of range",
        "pipeline.sqlstate": b"22003",
        "pipeline.group": b"group",
        "pipeline.attempts": b"3",
    }
    assert datetime.fromisoformat(failed_at).tzinfo is not None


def test_a_record_that_never_reached_postgres_has_no_sqlstate() -> None:
    headers = dict(headers_of(letter(), DeadLetterReason("not JSON", "DecodeError"), "group"))
    assert headers["pipeline.sqlstate"] == b""
    assert headers["pipeline.attempts"] == b"1"


async def test_the_record_is_kept_as_it_was() -> None:
    producer = FakeProducer()
    record = letter(headers=[("mine", b"1"), ("mine", b"2")], timestamp=5)
    await topic(producer).put(record, REJECTION)
    (sent,) = producer.sent
    assert (sent["topic"], sent["key"], sent["value"]) == ("sessions.dlq", b"k", b"v")
    assert sent["timestamp_ms"] == 5
    assert sent["headers"][:2] == [("mine", b"1"), ("mine", b"2")]
    assert dict(sent["headers"])["__connect.errors.offset"] == b"7"


async def test_nulls_that_can_not_be_sent_are_listed() -> None:
    producer = FakeProducer()
    record = letter(key=None, value=None, headers=[("one", b""), ("none", None)], timestamp=-1)
    await topic(producer).put(record, REJECTION)
    (sent,) = producer.sent
    headers = dict(sent["headers"])
    assert (sent["key"], sent["value"], headers["none"]) == (None, b"", b"")
    assert set(orjson.loads(headers["pipeline.nulls"])) == {"value", "header:1:none"}
    assert sent["timestamp_ms"] is None


async def test_a_tombstone_with_a_key_stays_one() -> None:
    producer = FakeProducer()
    await topic(producer).put(letter(value=None), REJECTION)
    assert producer.sent[0]["value"] is None
    assert "pipeline.nulls" not in dict(producer.sent[0]["headers"])


async def test_sending_is_tried_until_it_is_acknowledged(autojump_clock: MockClock) -> None:
    producer = FakeProducer(failures=12)
    started = trio.current_time()
    await topic(producer).put(letter(), REJECTION)
    assert len(producer.sent) == 1
    assert producer.flushed == 13
    longest = 0.4 + 0.8 + 1.6 + 3.2 + 6.4 + 7 * 10  # half of each wait is random
    assert longest / 2 <= trio.current_time() - started <= longest


async def test_too_many_within_a_minute_stop_the_pipeline(autojump_clock: MockClock) -> None:
    producer = FakeProducer()
    letters = topic(producer, limit=3)
    for _ in range(3):
        await letters.put(letter(), REJECTION)
        await trio.sleep(10)
    with pytest.raises(PipelineError, match="more than 3 dead letters within a minute") as caught:
        await letters.put(letter(), REJECTION)
    assert REJECTION.reason in str(caught.value)
    assert len(producer.sent) == 3, "what is over the limit is not sent"
    await trio.sleep(30)  # the first is a minute old, the second is not
    await letters.put(letter(), REJECTION)
    with pytest.raises(PipelineError):
        await letters.put(letter(), REJECTION)


async def test_without_a_topic_the_first_stops_the_pipeline_and_is_named() -> None:
    with pytest.raises(PipelineError) as caught:
        await NoDeadLetters().put(letter(), REJECTION)
    message = str(caught.value)
    assert "sessions-0 offset 7" in message
    assert "value out of range" in message
    assert "dead_letter_topic" in message


async def test_closing_is_bounded() -> None:
    producer = FakeProducer()
    await topic(producer).close()
    assert producer.closed
