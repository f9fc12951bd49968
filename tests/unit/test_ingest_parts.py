"""The parts of the endpoint: receipts, tokens, rates, schemas, idempotency keys."""

from __future__ import annotations

import json
import logging
from pathlib import Path as FilePath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts.rule import Plain
from pipeline.contracts.wish import RateLimit
from pipeline.contracts.wishes import Wishes
from pipeline.ingest import rates as rates_module
from pipeline.ingest import receipts
from pipeline.ingest.cors import Cors
from pipeline.ingest.idempotency import record_key, request_key
from pipeline.ingest.limits import TenantLimits, message_key
from pipeline.ingest.openapi import document
from pipeline.ingest.problems import RefusedError
from pipeline.ingest.rates import CLOSED_SECONDS, TenantRates
from pipeline.ingest.validation import Invalid, SchemaError, plain_value, schema_check
from pipeline.records.path import Path
from pipeline.web.tokens import Tokens


@given(st.uuids(), st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1))
def test_a_receipt_is_read_as_it_was_written(topic: UUID, partition: int, offset: int) -> None:
    text = receipts.encode(topic, partition, offset)
    assert receipts.decode(text) == receipts.Receipt(topic, partition, offset)


@given(st.text(max_size=60))
def test_what_is_no_receipt_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="no receipt"):
        receipts.decode(text)


@given(st.integers(0, 43), st.sampled_from("AQgw_-9"))
def test_a_receipt_with_a_wrong_character_is_refused(place: int, character: str) -> None:
    text = receipts.encode(UUID(int=3), 1, 99)
    wrong = text[:place] + character + text[place + 1 :]
    if wrong != text:
        with pytest.raises(ValueError, match="no receipt"):
            receipts.decode(wrong)


def test_a_receipt_that_was_cut_off_is_refused() -> None:
    text = receipts.encode(UUID(int=3), 1, 99)
    for length in range(len(text)):
        with pytest.raises(ValueError, match="no receipt"):
            receipts.decode(text[:length])


def test_a_receipt_has_one_text_only() -> None:
    text = receipts.encode(UUID(int=3), 1, 99)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(text[-1])
    alike = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1]
    for other in (text[:-1] + alike, f"{text}=", f"{text[:9]}!{text[9:]}"):
        with pytest.raises(ValueError, match="no receipt"):
            receipts.decode(other)


def test_only_the_tokens_are_admitted() -> None:
    tokens = Tokens(["first-token-of-all", "second-token-of-all"])
    assert tokens.admit(b"Bearer first-token-of-all")
    assert tokens.admit(b"bearer  second-token-of-all")
    for wrong in (None, b"", b"Bearer ", b"Bearer first-token-of-al", b"Basic first-token-of-all",
                  b"first-token-of-all", b"Bearer first-token-of-all second-token-of-all"):  # fmt: skip
        assert not tokens.admit(wrong)


def test_without_tokens_everybody_is_admitted() -> None:
    assert Tokens([]).admit(None)


def test_all_tokens_are_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    tokens = Tokens(["first-token-of-all", "second-token-of-all"])
    for given_token in (b"Bearer first-token-of-all", b"Bearer x"):
        compared.clear()
        tokens.admit(given_token)
        assert len(compared) == 2


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_tenant_has_a_burst_of_a_second_and_then_its_rate() -> None:
    clock = Clock()
    rates = TenantRates(clock, lambda _: 10.0)
    assert [rates.take(b"a") == 0 for _ in range(11)] == [True] * 10 + [False]
    assert rates.take(b"a") == pytest.approx(0.1)
    assert rates.take(b"b") == 0
    clock.now += 0.1
    assert rates.take(b"a") == 0
    assert rates.take(b"a") > 0
    clock.now += 60
    assert [rates.take(b"a") == 0 for _ in range(11)] == [True] * 10 + [False]


def test_a_rate_below_one_in_a_second_admits_one_at_a_time() -> None:
    clock = Clock()
    rates = TenantRates(clock, lambda _: 0.1)
    assert rates.take(b"a") == 0
    assert rates.take(b"a") == pytest.approx(10)
    clock.now += 10
    assert rates.take(b"a") == 0


def test_a_rate_that_changes_holds_from_the_next_record_on() -> None:
    rate: dict[bytes, float | None] = {b"a": 1.0}
    rates = TenantRates(Clock(), rate.get)
    assert rates.take(b"a") == 0
    assert rates.take(b"a") > 0
    rate[b"a"] = None
    assert rates.take(b"a") == 0


def test_tenants_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "MOST_TENANTS", 100)
    clock = Clock()
    rates = TenantRates(clock, lambda _: 1.0)
    for n in range(1000):
        clock.now += 0.001
        rates.take(b"%d" % n)
        assert len(rates._at_rest) <= 100
    assert rates.take(b"999") > 0


SCHEMA = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "a": {"type": "object", "properties": {"b/c": {"enum": ["x", "y"]}}},
        "when": {"format": "date-time"},
        "r": {"$ref": "#/$defs/short"},
    },
    "additionalProperties": False,
    "$defs": {"short": {"maxLength": 3}},
}


@pytest.mark.parametrize(
    ("document", "field", "detail"),
    [
        ({"id": 0}, "/id", 'the schema\'s "minimum": 1 is not met'),
        ({"id": "topsecret"}, "/id", '"type": "integer"'),
        ({}, "/id", "missing"),
        ({"id": 1, "a": {"b/c": "topsecret"}}, "/a/b~1c", '"enum": ["x","y"]'),
        ({"id": 1, "other": "topsecret"}, "/other", "not known"),
        ({"id": 1, "when": "topsecret"}, "/when", '"format": "date-time"'),
        ({"id": 1, "r": "topsecret"}, "/r", '"maxLength": 3 is not met'),
    ],
)
def test_the_schema_names_field_and_rule_and_never_the_value(
    tmp_path: FilePath, document: object, field: str, detail: str
) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    _, check = schema_check(file)
    assert check({"id": 1}) is None
    found = check(document)
    assert found is not None
    assert found.field == field
    assert detail.replace(": ", ":") in found.detail.replace(": ", ":")
    assert "topsecret" not in found.detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"type": "nothing"}', "holds no JSON Schema"),
        ('{"$ref": "http://127.0.0.1:9/other.json"}', "holds no JSON Schema.*"),
    ],
)
def test_a_schema_that_can_not_be_used_is_told_at_the_start(
    tmp_path: FilePath, text: str, message: str
) -> None:
    file = tmp_path / "schema.json"
    file.write_text(text)
    with pytest.raises(SchemaError, match=message):
        schema_check(file)


def test_a_schema_that_is_not_there_is_told_at_the_start(tmp_path: FilePath) -> None:
    with pytest.raises(SchemaError, match="can't be read: No such file"):
        schema_check(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("value", "key"),
    [("app-1", b"app-1"), (7, b"7"), (-7, b"-7"), (7.0, b"7"), ("ä", "ä".encode())],
)
def test_texts_and_whole_numbers_are_message_keys(value: object, key: bytes) -> None:
    assert plain_value({"a": {"b": value}}, Path.parse("a.b")) == key


@pytest.mark.parametrize("value", [None, True, 1.5, 1e30, [], {}, "", "x" * 1025])
def test_other_values_are_no_message_keys(value: object) -> None:
    found = plain_value({"a": {"b": value}}, Path.parse("a.b"))
    assert isinstance(found, Invalid)
    assert found.field == "/a/b"


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"a": None}, {"a": [1]}])
def test_a_step_that_is_missing_is_told(document: object) -> None:
    assert isinstance(plain_value(document, Path.parse("a.b")), Invalid)


@pytest.mark.parametrize("value", [b"", b" ", b"a b", b"x" * 256, "ä".encode()])
def test_an_idempotency_key_that_can_not_be_compared_is_refused(value: bytes) -> None:
    with pytest.raises(RefusedError):
        request_key(value)


def test_each_record_of_a_batch_has_an_idempotency_key_of_its_own() -> None:
    keys = {record_key(b"k", index, text, {}, None) for index in range(3) for text in (b"a", b"b")}
    assert len(keys) == 6
    assert record_key(b"k", 1, b"a", {}, None) == record_key(b"k", 1, b"a", {}, None)
    assert record_key(b"k", None, b"a", {}, None) == b"k"
    assert record_key(None, 1, b"a", {}, None) is None


def test_a_record_s_own_idempotency_key_wins() -> None:
    path = Path.parse("meta.key")
    assert record_key(b"k", 0, b"", {"meta": {"key": "own"}}, path) == b"own"
    assert record_key(b"k", None, b"", {"meta": {}}, path) == b"k"
    assert isinstance(record_key(b"k", 0, b"", {"meta": {"key": []}}, path), Invalid)


def test_browsers_of_other_origins_are_told_nothing() -> None:
    cors = Cors(["https://a.example"])
    assert (b"access-control-allow-origin", b"https://a.example") in cors.headers(
        b"https://a.example"
    )
    for other in (None, b"https://b.example", b"null"):
        assert cors.headers(other) == [(b"vary", b"origin")]
        assert cors.preflight(other) == [(b"vary", b"origin")]
    assert Cors([]).headers(b"https://a.example") == []
    assert (b"access-control-allow-origin", b"*") in Cors(["*"]).headers(b"https://b.example")


def test_the_document_has_the_schema_with_its_references_and_what_is_required() -> None:
    made = json.loads(document(SCHEMA, [Path.parse("meta.app")], with_tokens=True))
    own, required = made["components"]["schemas"]["Record"]["allOf"]
    assert own["properties"]["r"] == {"$ref": "#/components/schemas/Record/allOf/0/$defs/short"}
    assert own["$defs"] == SCHEMA["$defs"]
    assert required["required"] == ["meta"]
    assert required["properties"]["meta"]["required"] == ["app"]


def test_a_schema_with_an_id_is_embedded_as_it_is() -> None:
    schema = {**SCHEMA, "$id": "https://a.example/record"}
    made = json.loads(document(schema, with_tokens=False))
    assert made["components"]["schemas"]["Record"]["allOf"] == [schema]


def test_an_operators_limit_goes_before_the_rate_of_all_until_it_is_over() -> None:
    now = 1000.0
    wishes = Wishes(lambda: now)
    limits = TenantLimits(wishes, 100.0)
    limits.obey()
    assert limits.rate_of(b"app-7") == 100.0
    wishes.put(limit("l1", "app-7", 5.0, until=1_010_000))
    wishes.put(limit("l2", 8, 0.0))
    limits.obey()
    assert [limits.rate_of(key) for key in (b"app-7", b"8", b"9")] == [5.0, 0.0, 100.0]
    limits.rate = None
    now = 1011.0
    wishes.remove("l2")
    limits.obey()
    assert [limits.rate_of(key) for key in (b"app-7", b"8", b"9")] == [None] * 3


def test_an_operators_limit_is_told_with_whose_it_is_and_by_what_wish(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    wishes = Wishes(lambda: 1000.0)
    limits = TenantLimits(wishes, None)
    wishes.put(limit("l1", "app-7", 5.0))
    limits.obey()
    wishes.remove("l1")
    limits.obey()
    limits.obey()
    told = [vars(each)["facts"] for each in caplog.records]
    assert [(each["event"], each["tenant"], each["wish"]) for each in told] == [
        ("limited", "app-7", "l1"), ("unlimited", "app-7", "l1"),
    ]  # fmt: skip


def limit(limit_id: str, tenant: Plain, rate: float, until: int | None = None) -> RateLimit:
    return RateLimit(id=limit_id, tenant=tenant, rate=rate, by="me", since=0, until=until, why="")


@pytest.mark.parametrize("tenant", ["app-7", "ü", 7, 7.0, "7"])
def test_a_limits_tenant_is_found_by_the_message_key_of_its_records(tenant: Plain) -> None:
    assert message_key(tenant) == plain_value({"app": tenant}, Path.parse("app"))


def test_a_rate_of_nothing_takes_nothing() -> None:
    clock = Clock()
    rates = TenantRates(clock, lambda _: 0.0)
    assert rates.take(b"a") == CLOSED_SECONDS
    clock.now += 1000
    assert rates.take(b"a") == CLOSED_SECONDS
