"""Records made for a handler's tests."""

from __future__ import annotations

import pytest

from pipeline.testing import record


def test_a_record_is_what_a_handler_is_given() -> None:
    made = record(
        {"id": 7, "tags": ("a", "b")},
        key="user-ü",
        offset=5,
        topic="sessions",
        partition=3,
        headers=[("trace", b"1")],
        timestamp=1_700_000_000_000,
    )
    assert made.document == {"id": 7, "tags": ["a", "b"]}, "as it comes out of JSON"
    assert made.value == b'{"id":7,"tags":["a","b"]}'
    assert made.key == "user-ü".encode()
    assert (made.topic, made.partition, made.offset) == ("sessions", 3, 5)
    assert (made.headers, made.timestamp) == ([("trace", b"1")], 1_700_000_000_000)
    assert str(made) == "sessions-3 offset 5"
    assert made.disposition is None


def test_no_document_is_a_tombstone() -> None:
    made = record(None, key=b"user-7")
    assert (made.value, made.document, made.key, made.ordering) == (None, None, b"user-7", "user-7")


def test_a_document_is_what_json_can_hold() -> None:
    with pytest.raises(TypeError):
        record({"id": object()})
