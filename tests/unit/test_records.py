"""Paths, and the decoder of JSON: keys found, misfits with their reason, nothing raised."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition as KafkaTopicPartition

from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape
from tests.support.records import SOURCE, Raw, reason_of


def made(raw: Raw, document: Any = None) -> Record:
    return Record(SOURCE, raw.offset, raw, document, None)


def found(path: str, raw: Raw, document: Any = None) -> Any:
    return Path.parse(path).getter()(made(raw, document))


RAW = Raw(
    offset=7,
    key=b'{"a":{"b":5}}',
    headers=[("h", b"old"), ("h", b"new"), ("null", None)],
    timestamp=1_000,
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"b": [1]}),
        ("a.b", [1]),
        ("a.b.c", None),
        ("x", None),
        ("x.y", None),
        ("@key", '{"a":{"b":5}}'),
        ("@key.a.b", 5),
        ("@key.a.x", None),
        ("@header:h", "new"),
        ("@header:null", None),
        ("@header:none", None),
        ("@offset", 7),
        ("@partition", 0),
        ("@topic", "sessions"),
        ("@timestamp", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_where_a_path_leads(path: str, value: Any) -> None:
    assert found(path, RAW, {"a": {"b": [1]}}) == value


@pytest.mark.parametrize("document", [None, 5, "text", [1], True])
@pytest.mark.parametrize("path", ["a", "a.b"])
def test_a_path_into_what_is_no_object_leads_nowhere(path: str, document: Any) -> None:
    assert found(path, RAW, document) is None


def test_what_a_message_does_not_have() -> None:
    bare = Raw(key=None, headers=(), timestamp=-1)
    assert [found(path, bare) for path in ("@key", "@key.a", "@header:h", "@timestamp")] == [
        None
    ] * 4
    assert found("@key.a", Raw(key=b"not JSON")) is None
    assert found("@key", Raw(key=b"\xff")) == "\udcff"


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a..b", "@", "@keys", "@key.", "@key..a", "@header", "@header:",
     "@offset.x", "@timestamp.a", "@nothing"],
)  # fmt: skip
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid path: "):
        Path.parse(text)


def test_what_a_path_says_of_itself() -> None:
    texts = {"@key", "@header:h"}
    values = {"a", "a.b"}
    for text in texts | values | {"@key.a", "@offset", "@topic"}:
        path = Path.parse(text)
        assert path.is_text == (text in texts)
        assert path.in_value == (text in values)


def test_a_partition_is_kafka_pythons() -> None:
    ours, theirs = TopicPartition("t", 1), KafkaTopicPartition("t", 1)
    equal: object = theirs
    assert ours == equal
    assert hash(ours) == hash(theirs)
    assert str(ours) == "t-1"


# Decoding.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["id", "a", "b"]), inner, max_size=2)
    ),
    max_leaves=5,
)
payloads = st.lists(
    st.none() | st.binary(max_size=8) | json_values.map(orjson.dumps)
    | st.fixed_dictionaries({"id": json_values}).map(orjson.dumps),
    max_size=8,
)  # fmt: skip


def raws(values: Sequence[bytes | None]) -> list[Raw]:
    return [Raw(n * 2, f"k{n}".encode(), value) for n, value in enumerate(values)]


def summary(records: Sequence[Record]) -> list[Any]:
    return [(r.offset, r.document, r.ordering, reason_of(r).split()[:3]) for r in records]


@given(payloads)
def test_both_decoders_agree(values: list[bytes | None]) -> None:
    """A single field has a decoder of its own; two paths of which one is never there have not."""
    given = raws(values)
    fast = json_decoder([Path.parse("id")])(SOURCE, given)
    general = json_decoder([Path.parse("id"), Path.parse("@header:none")])(SOURCE, given)
    as_one = [
        (o, d, k[0][1] if not e and d is not None else k, e)
        for o, d, k, e in summary(general)
    ]  # fmt: skip
    for one, other in zip(summary(fast), as_one, strict=True):
        assert one[:3] == other[:3]
        assert bool(one[3]) == bool(other[3])


def plain(document: Any) -> Any:
    """A row as the dictionary that it was read from, as far as the test's fields go."""
    found = {field: document.get(field) for field in ("a", "id")}
    return {field: None if value is msgspec.UNSET else value for field, value in found.items()}


@given(payloads, st.sampled_from([["id"], ["a.b"], ["@key"], ["id", "a"], ["@key", "id.a"]]))
def test_rows_order_as_documents_do(values: list[bytes | None], paths: list[str]) -> None:
    """What is not an object can't become a row; all else is read alike."""
    keys = [Path.parse(path) for path in paths]
    whole = json_decoder(keys)(SOURCE, raws(values))
    rows = json_decoder(keys, Shape(("a",)).including(["id"]))(SOURCE, raws(values))
    for one, other in zip(whole, rows, strict=True):
        if type(one.document) is dict and other.document is not None:
            assert (plain(one.document), one.ordering) == (plain(other.document), other.ordering)
            assert bool(reason_of(one)) == bool(reason_of(other))
        elif one.value is not None:
            assert reason_of(other)
        else:
            assert (one.ordering, other.document, reason_of(other)) == (other.ordering, None, "")


def test_rows_of_a_shape_and_of_the_ordering_key_behind_it() -> None:
    shape = Shape(("a", "not a name"), frozenset({"a"}))
    decode = json_decoder([Path.parse("id")], shape)
    (record,) = decode(SOURCE, [Raw(0, b"k", b'{"id":7,"a":[1, 2],"not a name":2.50,"x":{}}')])
    assert (record.ordering, reason_of(record)) == (7, "")
    assert bytes(record.document.get("a")) == b"[1, 2]"
    assert msgspec.structs.astuple(record.document)[1:] == ("2.50", 7)


def test_a_value_without_columns_may_be_anything_in_json() -> None:
    (record,) = json_decoder([Path.parse("@key")], Shape(()))(SOURCE, [Raw(0, b"k", b"5")])
    assert (record.document, record.ordering, reason_of(record)) == (5, "k", "")


def test_a_row_that_nests_too_deep_says_so() -> None:
    value = b'{"id":1,"a":' + b"[" * 1000 + b"]" * 1000 + b"}"
    (record,) = json_decoder([Path.parse("id")], Shape(("a",)))(SOURCE, [Raw(0, b"k", value)])
    assert reason_of(record).startswith("the value can't be read: maximum recursion depth")


@given(payloads, st.sampled_from([["id"], ["a.b"], ["@key"], ["id", "a"], ["@key", "id.a"]]))
def test_every_record_comes_out_with_a_key_or_a_reason(
    values: list[bytes | None], paths: list[str]
) -> None:
    given = raws(values)
    records = json_decoder([Path.parse(path) for path in paths])(SOURCE, given)
    assert [record.raw for record in records] == given
    assert [record.offset for record in records] == [raw.offset for raw in given]
    for record in records:
        hash(record.ordering)
        assert record.ordering is not None
        if len(paths) > 1:
            assert isinstance(record.ordering, tuple)
            assert record.ordering
        if record.value is None:
            assert (record.document, reason_of(record)) == (None, "")
        elif reason_of(record):
            if "@key" not in paths:
                assert record.ordering == (("@key", record.key),)
            elif len(paths) == 1 and record.key is not None:
                assert record.ordering == record.key.decode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "the value is not JSON"),
        (b"{", "the value is not JSON"),
        (b"\xff", "the value is not JSON"),
        (b"[1]", "the value is a JSON list, not an object"),
        (b'"id"', "the value is a JSON str, not an object"),
        (b"5", "the value is a JSON int, not an object"),
        (b"null", "the value is a JSON NoneType, not an object"),
        (b"{}", "is missing, null, or not a plain value"),
        (b'{"id":null}', "is missing, null, or not a plain value"),
        (b'{"id":[1]}', "is missing, null, or not a plain value"),
        (b'{"id":{}}', "is missing, null, or not a plain value"),
    ],
)
@pytest.mark.parametrize("paths", [["id"], ["id", "other"]])
def test_a_misfit_says_why(value: bytes, reason: str, paths: list[str]) -> None:
    decode = json_decoder([Path.parse(path) for path in paths])
    (record,) = decode(SOURCE, [Raw(3, b"k", value)])
    assert reason in reason_of(record)
    assert record.ordering == (("@key", b"k"),)


def test_several_keys_where_some_are_missing() -> None:
    decode = json_decoder([Path.parse(path) for path in ("id", "user.id", "@key")])
    values = [b'{"id":1,"user":{"id":2}}', b'{"user":{"id":2}}', b'{"id":1,"user":5}', None]
    records = decode(SOURCE, [Raw(n, b"k", value) for n, value in enumerate(values)])
    assert [record.ordering for record in records] == [
        ((0, 1), (1, 2), (2, "k")),
        ((1, 2), (2, "k")),
        ((0, 1), (2, "k")),
        ((2, "k"),),
    ]
    assert [reason_of(record) for record in records] == [""] * 4


def test_a_tombstone_is_ordered_by_the_message_key_where_that_is_the_key() -> None:
    live, dead = json_decoder([Path.parse("@key")])(
        SOURCE, [Raw(0, b"k", b"5"), Raw(1, b"k", None)]
    )
    assert live.ordering == dead.ordering == "k"
    assert (live.document, dead.document) == (5, None)


def test_a_record_shows_its_place() -> None:
    record = made(RAW)
    assert str(record) == "sessions-0 offset 7"
    assert (record.topic, record.partition, record.timestamp) == ("sessions", 0, 1_000)
