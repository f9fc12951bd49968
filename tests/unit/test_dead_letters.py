"""Dead letters: what they say, how many are allowed, and that none is lost."""

# ruff: noqa: ARG001, ARG002 (the clock is asked for to be in force; fakes ignore much)

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
import pytest
import trio
from kafka.errors import (
    InvalidTimestampError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)
from kafka.future import Future
from trio.testing import MockClock

from pipeline.errors import PipelineError
from pipeline.kafka.dead_letters import DeadLetterTopic, NoDeadLetters
from pipeline.kafka.letter_forms import headers_of
from pipeline.kafka.producer import AcknowledgedProducer
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from tests.support.records import SOURCE, Raw

REJECTION = DeadLetterReason("value out of range", "NumericValueOutOfRangeError", "22003", 3)


class FakeProducer:
    """Keeps what it is sent; fails as often as it is told to, and as ``refuse`` says."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[dict[str, Any]] = []
        self.failures = failures
        self.attempts: list[bool] = []
        """Of each attempt, whether it was made alone."""
        self.refuse: Callable[[dict[str, Any]], Exception | None] = lambda _: None
        self.silent = False

    async def send(self, topic: str, *, alone: bool = False, **message: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.attempts.append(alone)
        if self.silent:
            await trio.sleep_forever()
        if self.failures:
            self.failures -= 1
            raise KafkaTimeoutError("no broker answers")
        if error := self.refuse(message):
            raise error
        self.sent.append({"topic": topic, **message})


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
    assert dict(sent["headers"])["pipeline.timestamp"] == b"5"
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
    assert producer.attempts == [False] * 13
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


# What the topic refuses.


def larger_than(most: int) -> Callable[[dict[str, Any]], Exception | None]:
    def refuse(message: dict[str, Any]) -> Exception | None:
        size = sum(len(n) + len(v) for n, v in message["headers"]) + len(message["value"] or b"")
        return MessageSizeTooLargeError() if size > most else None

    return refuse


async def test_too_large_is_kept_without_its_value(autojump_clock: MockClock) -> None:
    producer = FakeProducer()
    producer.refuse = larger_than(1000)
    await topic(producer).put(letter(value=b"v" * 1001, headers=[("mine", b"1")]), REJECTION)
    (sent,) = producer.sent
    headers = dict(sent["headers"])
    assert (sent["key"], sent["value"], headers["mine"]) == (b"k", b"", b"1")
    assert orjson.loads(headers["pipeline.omitted"]) == ["value"]
    assert headers["__connect.errors.offset"] == b"7"


async def test_headers_that_are_too_large_are_left_out_too(autojump_clock: MockClock) -> None:
    producer = FakeProducer()
    producer.refuse = larger_than(1000)
    await topic(producer).put(letter(headers=[("mine", b"1" * 2000)]), REJECTION)
    headers = dict(producer.sent[0]["headers"])
    assert "mine" not in headers
    assert (producer.sent[0]["key"], orjson.loads(headers["pipeline.omitted"])) == (
        b"k",
        ["value", "headers"],
    )


async def test_a_record_that_fails_beside_a_guilty_one_is_kept_as_it_is(
    autojump_clock: MockClock,
) -> None:
    """The shared producer fails whatever is under way; the record's own attempt goes through."""
    producer = FakeProducer()
    producer.refuse = lambda _: InvalidTimestampError() if len(producer.attempts) == 1 else None
    await topic(producer).put(letter(timestamp=5), REJECTION)
    assert producer.attempts == [False, True]
    assert producer.sent[0]["value"] == b"v"
    assert "pipeline.omitted" not in dict(producer.sent[0]["headers"])


async def test_a_missing_right_is_told_once_and_heals(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    producer = FakeProducer()
    producer.refuse = lambda _: (
        TopicAuthorizationFailedError() if len(producer.attempts) < 9 else None
    )
    await topic(producer).put(letter(), REJECTION)
    assert len(producer.sent) == 1
    told = [r.getMessage() for r in caplog.records if "not among the dead letters" in r.message]
    assert len(told) == 1
    assert "grant Write on topic sessions.dlq" in told[0]
    assert "takes records again" in caplog.text


async def test_a_topic_that_does_not_answer_is_told_of_and_stops_no_drain(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    producer = FakeProducer()
    producer.silent = True
    with trio.move_on_after(60):
        await topic(producer).put(letter(), REJECTION)
    assert trio.current_time() < 61, "cancelled at once"
    assert producer.attempts == [False], "sent once: the producer itself tries on"
    assert "the dead letter topic sessions.dlq does not answer" in caplog.text


async def test_the_limit_outlives_a_restart(autojump_clock: MockClock) -> None:
    letters = DeadLetterTopic(FakeProducer(), "t", "g", 3, recent=[59.0, 30.0])  # type: ignore[arg-type]
    await letters.put(letter(), REJECTION)
    with pytest.raises(PipelineError, match="more than 3"):
        await letters.put(letter(), REJECTION)
    await trio.sleep(2)
    await letters.put(letter(), REJECTION)


# The producer.


class FakeKafkaProducer:
    """As kafka-python's idempotent one: after an error that is not retriable it is of no use."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = False

    def send(self, topic: str, **message: Any) -> Future:
        return Future().failure(self.error) if self.error else Future().success(None)

    def close(self, timeout: float) -> None:
        assert timeout < 60
        self.closed = True


@pytest.mark.parametrize(
    ("error", "kept"), [(TopicAuthorizationFailedError(), False), (KafkaTimeoutError(), True)]
)
async def test_a_producer_that_is_of_no_use_any_more_is_replaced(
    error: Exception, kept: bool
) -> None:
    first, second = FakeKafkaProducer(error), FakeKafkaProducer()
    producer = AcknowledgedProducer(first, lambda: second)  # type: ignore[arg-type,return-value]
    with pytest.raises(type(error)):
        await producer.send("t", value=b"")
    assert first.closed is not kept
    if not kept:
        await producer.send("t", value=b"")
    await producer.close()
    assert (first if kept else second).closed


async def test_alone_another_producer_is_used_and_closed() -> None:
    first, second = FakeKafkaProducer(KafkaTimeoutError()), FakeKafkaProducer()
    producer = AcknowledgedProducer(first, lambda: second)  # type: ignore[arg-type,return-value]
    await producer.send("t", alone=True, value=b"")
    assert (first.closed, second.closed) == (False, True)
