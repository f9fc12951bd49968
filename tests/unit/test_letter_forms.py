"""The forms of a dead letter: what is left out, for which refusal, and that it is listed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import (
    CorruptRecordError,
    InvalidRecordError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from pipeline.kafka.letter_forms import CONNECT, LESSENINGS, REFUSALS, Letter
from pipeline.operate.deadletters import parse
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition
from tests.support.records import SOURCE, Raw

REASON = DeadLetterReason("r" * 3000, "Error", "22003", 3)
PLACE = TopicPartition("dead", 0)


def letter(**raw: Any) -> Letter:
    made = Raw(**{"offset": 7, "key": b"k", "value": b"v", "timestamp": 5, **raw})
    return Letter.of(Record(SOURCE, made.offset, made, None, "k"), REASON, "group")


def lessened(whole: Letter, *errors: Exception) -> Letter:
    for error in errors:
        less = whole.lesser(error)
        assert less is not None
        whole = less
    return whole


def omitted(letter: Letter) -> list[str]:
    found: list[str] = orjson.loads(
        dict(letter.message()["headers"]).get("pipeline.omitted", b"[]")
    )
    return found


@pytest.mark.parametrize(
    "error",
    [
        MessageSizeTooLargeError(),
        RecordListTooLargeError(),
        InvalidRecordError(),
        PolicyViolationError(),
        TypeError(),
        UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
    ],
)
def test_the_least_that_is_lost_comes_first(error: Exception) -> None:
    whole = letter(headers=[("mine", b"1")])
    forms = [whole]
    while (less := forms[-1].lesser(error)) is not None:
        forms.append(less)
    assert omitted(forms[0]) == []
    assert omitted(forms[1]) == ["value"]
    assert omitted(forms[2]) == ["value", "headers"]
    assert {tuple(omitted(form)) for form in forms[3:]} == {("value", "headers", "key")}
    assert [form.key for form in forms[:5]] == [b"k", b"k", b"k", None, b"sessions-0@7"]
    reference = forms[-1].message()
    assert dict(reference["headers"])[CONNECT + "offset"] == b"7"
    assert sum(len(name) + len(text) for name, text in reference["headers"]) < 500


def test_a_letter_without_a_key_is_given_one_where_the_topic_demands_it() -> None:
    for error in (InvalidRecordError("cannot accept message without key"), CorruptRecordError()):
        kept = lessened(letter(key=None, headers=[("none", None)]), error)
        assert (kept.key, kept.value, omitted(kept)) == (b"sessions-0@7", b"v", [])
        sent = kept.message()
        found = parse(PLACE, Raw(0, sent["key"], sent["value"], sent["headers"]))
        assert found is not None
        assert found.key is None, "a replay sends none"
        assert found.own_headers == [("none", None)]
        assert not found.omitted


def test_a_key_that_was_left_out_is_given_back_where_it_is_demanded() -> None:
    large = MessageSizeTooLargeError()
    kept = lessened(letter(key=b"k" * 2000, value=None), large, large, InvalidRecordError())
    assert (kept.key, omitted(kept)) == (b"sessions-0@7", ["key"])


@pytest.mark.parametrize("timestamp", [0, 5, 4_000_000_000_000, -1])
def test_the_records_timestamp_is_noted_and_its_letter_has_its_own(timestamp: int) -> None:
    """Retention would take the letter of an old record before anybody looked at it."""
    message = letter(timestamp=timestamp).message()
    assert "timestamp_ms" not in message
    sent = Raw(0, message["key"], message["value"], message["headers"], timestamp=1_700_000_000_000)
    found = parse(TopicPartition("dlq", 0), sent)
    assert found is not None
    assert found.timestamp == timestamp


def test_what_has_no_own_headers_is_told_of_in_fewer_words() -> None:
    large = MessageSizeTooLargeError()
    kept = lessened(letter(value=b""), large)
    assert omitted(kept) == []
    assert len(dict(kept.message()["headers"])[CONNECT + "exception.message"]) == 1000


@pytest.mark.parametrize(
    "error",
    [TopicAuthorizationFailedError(), KafkaTimeoutError(), CorruptRecordError(), ValueError()],
)
def test_what_is_not_the_letters_fault_makes_it_no_less(error: Exception) -> None:
    assert letter().lesser(error) is None


NULLABLE = st.none() | st.binary(max_size=3)


@given(
    st.lists(st.sampled_from(REFUSALS), min_size=1, max_size=12),
    NULLABLE,
    NULLABLE,
    st.lists(st.tuples(st.text(max_size=3), NULLABLE), max_size=3),
    st.integers(-1, 10),
)
def test_whatever_is_refused_it_ends_with_where_the_record_is(
    refusals: list[type[Exception]], key: Any, value: Any, headers: Any, timestamp: int
) -> None:
    form = letter(key=key, value=value, headers=headers, timestamp=timestamp)
    steps = 0
    for refusal in refusals:
        refuses = UnicodeEncodeError("u", "", 0, 1, "") if refusal is UnicodeError else refusal()
        less = form.lesser(refuses)
        if less is not None:
            assert less.message() != form.message()
            form, steps = less, steps + 1
        sent = form.message()
        assert (sent["key"], sent["value"]) != (None, None), "no producer takes that"
        found = parse(PLACE, Raw(0, sent["key"], sent["value"], sent["headers"]))
        assert found is not None
        assert (found.source, found.source_offset, found.group) == (SOURCE, 7, "group")
        assert found.omitted or (found.key, found.value) == (key, value), "all of it, or it says so"
    assert steps <= len(LESSENINGS)
