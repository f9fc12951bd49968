"""The endpoint as a client sees it, over a writer that acknowledges as told."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import gzip
import json
from typing import Any

import orjson
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from pipeline.ingest.parsing import MOST_RECORDS
from pipeline.ingest.receipts import Receipt, decode
from pipeline.ingest.validation import Invalid
from pipeline.kafka.delivery import NotDelivered
from pipeline.observe.metrics import Metrics
from pipeline.partitioner import partition_for
from tests.support.ingest import NDJSON, TOPIC_ID, StubWriter, make_client
from tests.support.replies import Reply

ONE = b'{"app": "a", "n": 1}'
AWAY = NotDelivered("away", "no broker answers")
IN_DOUBT = NotDelivered("away", "", perhaps_written=True)


def batch(*records: object) -> bytes:
    return json.dumps(records).encode()


def is_problem(reply: Reply, status: int) -> bool:
    return (
        reply.status == status
        and reply.headers["content-type"] == "application/problem+json"
        and reply.json["status"] == status
        and bool(reply.json["title"] and reply.json["detail"])
    )


@pytest.fixture
def writer() -> StubWriter:
    return StubWriter()


async def test_an_object_is_written_as_it_was_sent_under_its_tenant(writer: StubWriter) -> None:
    body = b' {"app": "a",   "n": 1.10, "big": 123456789012345678901234567890}\n'
    reply = await make_client(writer).post(body)
    assert reply.status == 202
    (partition,) = (number for number, log in writer.log.items() if log)
    assert partition == partition_for(b"a", 4)
    assert writer.messages == [(b"a", body.strip(), [])]
    assert decode(reply.json["receipt"]) == Receipt(TOPIC_ID, partition, 0)


@pytest.mark.parametrize("ndjson", [False, True])
async def test_a_batch_is_answered_per_record_and_in_order(
    writer: StubWriter, ndjson: bool
) -> None:
    records = [{"app": f"app-{n % 7}", "n": n} for n in range(50)]
    lines = b"\r\n\n".join(map(orjson.dumps, records))
    client = make_client(writer)
    reply = await (client.post(lines, NDJSON) if ndjson else client.post(batch(*records)))
    assert (reply.status, reply.json["accepted"], reply.json["refused"]) == (202, 50, 0)
    for record, result in zip(records, reply.json["results"], strict=True):
        place = decode(result["receipt"])
        assert orjson.loads(writer.log[place.partition][place.offset][1]) == record
    for log in writer.log.values():
        numbers = [orjson.loads(value)["n"] for _, value, _ in log]
        assert numbers == sorted(numbers)


async def test_what_is_refused_in_a_batch_is_told_by_its_place(writer: StubWriter) -> None:
    reply = await make_client(writer).post(batch({"app": "a"}, {"n": 1}, 7, {"app": "b"}))
    assert (reply.status, reply.json["accepted"], reply.json["refused"]) == (207, 2, 2)
    statuses = [result["status"] for result in reply.json["results"]]
    assert statuses == [202, 422, 422, 202]
    assert reply.json["results"][1]["field"] == "/app"
    assert len(writer.messages) == 2


async def test_a_batch_of_which_nothing_is_accepted_is_a_problem(writer: StubWriter) -> None:
    reply = await make_client(writer).post(batch({"n": 1}, {"n": 2}))
    assert is_problem(reply, 422)
    assert (reply.json["accepted"], reply.json["refused"]) == (0, 2)
    assert [result["field"] for result in reply.json["results"]] == ["/app", "/app"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 422),
        (b"nope", {}, 422),
        (b"7", {}, 422),
        (b"[", {}, 422),
        (b"[]", {}, 422),
        (b"[" * 100_000, {}, 422),
        (b'{"app": ' + b"[" * 100_000, {}, 422),
        (b'{"app": "\xff"}', {}, 422),
        (b'{"app": "\\ud800"}', {}, 422),
        (b"\n\n", NDJSON, 422),
        (b"[" + b"1," * MOST_RECORDS + b"1]", {}, 413),
        (b"1\n" * (MOST_RECORDS + 1), NDJSON, 413),
        (ONE, {"content-type": "text/plain"}, 415),
        (ONE, {"content-type": ""}, 415),
        (ONE, {"content-type": "application/json; charset=latin-1"}, 415),
        (ONE, {"content-encoding": "br"}, 415),
        (ONE, {"content-encoding": "gzip"}, 422),
        (ONE, {"content-length": "2000000"}, 413),
        (b"x" * 1_048_577, {}, 413),
        (gzip.compress(bytes(2_000_000)), {"content-encoding": "gzip"}, 413),
        (ONE, {"idempotency-key": "a b"}, 422),
    ],
)
async def test_bodies_that_are_not_taken(
    writer: StubWriter, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert is_problem(await make_client(writer).post(body, headers), status)
    assert writer.messages == []


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "utf8"])
async def test_utf_8_may_be_said(writer: StubWriter, charset: str) -> None:
    reply = await make_client(writer).post(
        ONE, {"content-type": f"application/json; charset={charset}"}
    )
    assert reply.status == 202


async def test_no_value_of_a_record_is_in_an_answer(writer: StubWriter) -> None:
    client = make_client(writer, required=("app", "id"))
    for record in ('{"app": "topsecret", "id": ["topsecret"]}', '{"app": "topsecret" topsecret}'):
        for headers in ({}, NDJSON):
            reply = await client.post(record.encode(), headers)
            assert b"topsecret" not in reply.body
            assert reply.status == 422


async def test_the_schema_is_asked_after_key_and_tenant(writer: StubWriter) -> None:
    client = make_client(writer, check=lambda _: Invalid("not met", "/x"))
    assert (await client.post(ONE)).json["field"] == "/x"
    assert (await client.post(b"{}")).json["field"] == "/app"


async def test_without_a_token_nothing_is_read(writer: StubWriter) -> None:
    client = make_client(writer, tokens=("a-token-of-some-length",))
    reply = await client.post([])
    assert is_problem(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")
    reply = await client.post(ONE, {"authorization": "Bearer a-token-of-some-length"})
    assert reply.status == 202


async def test_metrics_need_a_token_too_and_probes_do_not(writer: StubWriter) -> None:
    client = make_client(writer, tokens=("a-token-of-some-length",))
    assert (await client.request("GET", "/metrics")).status == 401
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert (await client.request("GET", path)).status == 200


async def test_while_kafka_is_away_requests_are_refused_at_once_and_unread(
    writer: StubWriter,
) -> None:
    writer.trouble = AWAY
    client = make_client(writer)
    reply = await client.post([])
    assert is_problem(reply, 503)
    assert int(reply.headers["retry-after"]) >= 1
    ready = await client.request("GET", "/readyz")
    assert (ready.status, ready.body) == (503, b"Kafka: no broker answers\n")
    assert (await client.request("GET", "/livez")).status == 200


async def test_one_partition_that_is_away_stops_its_own_tenants_only(writer: StubWriter) -> None:
    away = partition_for(b"a", 4)
    other = next(app for app in "bcdefgh" if partition_for(app.encode(), 4) != away)
    writer.absent = {away}
    client = make_client(writer)
    assert (await client.post(batch({"app": other}))).status == 202
    reply = await client.post(batch({"app": "a"}, {"app": other}))
    assert [result["status"] for result in reply.json["results"]] == [503, 202]
    reply = await client.post(ONE)
    assert is_problem(reply, 503)
    assert int(reply.headers["retry-after"]) >= 1


async def test_beyond_max_pending_requests_are_refused_at_once(writer: StubWriter) -> None:
    writer.held = []
    client = make_client(writer, max_pending=3)
    replies: list[Reply] = []

    async def post(body: bytes) -> None:
        replies.append(await client.post(body))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post, batch({"app": "a"}, {"app": "a"}))
        await wait_all_tasks_blocked()
        reply = await client.post(batch({"app": "a"}, {"app": "a"}))
        assert is_problem(reply, 503)
        assert int(reply.headers["retry-after"]) >= 1
        nursery.start_soon(post, ONE)
        await wait_all_tasks_blocked()
        assert is_problem(await client.post([]), 503)  # refused by its head alone
        for delivery in writer.held:
            writer.release(delivery)
    assert [reply.status for reply in replies] == [202, 202]
    assert is_problem(await client.post(batch(*[{"app": "a"}] * 4)), 413)


async def test_records_whose_client_has_gone_count_until_kafka_has_answered(
    writer: StubWriter,
) -> None:
    writer.pending_bytes = 64 * 1024**2 + 1
    assert is_problem(await make_client(writer).post([]), 503)


async def test_nothing_is_answered_before_kafka_has_acknowledged(writer: StubWriter) -> None:
    writer.held = []
    client = make_client(writer)
    replies: list[Reply] = []

    async def post() -> None:
        replies.append(await client.post(ONE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post)
        await wait_all_tasks_blocked()
        assert (len(writer.held), replies) == (1, [])
        writer.release(writer.held[0])
    assert [reply.status for reply in replies] == [202]


@pytest.mark.parametrize(
    ("outcome", "status", "retried"),
    [
        (AWAY, 503, True),
        (IN_DOUBT, 503, True),
        (NotDelivered("too-large", ""), 413, False),
        (NotDelivered("refused", ""), 422, False),
        (NotDelivered("not-allowed", "", perhaps_written=True), 503, True),
        (NotDelivered("no-topic", ""), 503, True),
    ],
)
async def test_what_kafka_does_not_take_is_not_accepted(
    writer: StubWriter, outcome: NotDelivered, status: int, retried: bool
) -> None:
    writer.outcome = lambda _, __: outcome
    client = make_client(writer)
    for body in (ONE, batch({"app": "a"}, {"app": "b"})):
        reply = await client.post(body)
        assert is_problem(reply, status)
        assert ("retry-after" in reply.headers) == retried


async def test_a_record_in_doubt_is_told_to_be_sent_again_under_the_same_key(
    writer: StubWriter,
) -> None:
    writer.outcome = lambda _, __: IN_DOUBT
    reply = await make_client(writer).post(ONE)
    assert "may be written or not" in reply.json["detail"]
    assert "Idempotency-Key" in reply.json["detail"]


async def test_an_offset_that_the_broker_did_not_tell_is_no_receipt(writer: StubWriter) -> None:
    writer.outcome = lambda _, __: -1
    reply = await make_client(writer).post(ONE)
    assert (reply.status, reply.json) == (202, {"receipt": None})


async def test_a_tenant_over_its_rate_is_refused_and_others_are_not(
    autojump_clock: MockClock, writer: StubWriter
) -> None:
    client = make_client(writer, rate_per_tenant=2.0)
    reply = await client.post(batch(*[{"app": "a"}] * 3, {"app": "b"}))
    assert [result["status"] for result in reply.json["results"]] == [202, 202, 429, 202]
    assert reply.headers["retry-after"] == "1"
    reply = await client.post(ONE)
    assert is_problem(reply, 429)
    assert reply.headers["retry-after"] == "1"
    await trio.sleep(1)
    assert (await client.post(ONE)).status == 202


async def test_after_a_record_over_the_rate_no_later_one_of_its_tenant_gets_ahead(
    writer: StubWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = iter([0.0, 0.5])
    monkeypatch.setattr("pipeline.ingest.rates.TenantRates.take", lambda *_: next(waits))
    client = make_client(writer, rate_per_tenant=1.0)
    reply = await client.post(batch(*[{"app": "a", "n": n} for n in range(5)]))
    assert [result["status"] for result in reply.json["results"]] == [202, 429, 429, 429, 429]


async def test_the_idempotency_key_is_a_header_in_kafka(writer: StubWriter) -> None:
    client = make_client(writer, idempotency="meta.key")
    await client.post(ONE, {"idempotency-key": "k-1"})
    await client.post(b'{"app": "a", "meta": {"key": "own"}}', {"idempotency-key": "k-1"})
    await client.post(b'{"app": "a"}')
    assert [headers for _, _, headers in writer.messages] == [
        [("idempotency-key", b"k-1")], [("idempotency-key", b"own")], [],
    ]  # fmt: skip


async def test_a_batch_sent_again_has_the_same_keys_and_its_rest_has_others(
    writer: StubWriter,
) -> None:
    writer = StubWriter(partitions=1)
    client = make_client(writer)
    records = [{"app": "a", "n": n} for n in range(3)]
    for body in (batch(*records), batch(*records), batch(*records[1:])):
        assert (await client.post(body, {"idempotency-key": "k"})).status == 202
    keys = [headers[0][1] for _, _, headers in writer.messages]
    assert keys[:3] == keys[3:6]
    assert set(keys[6:]).isdisjoint(keys[:3])
    assert len(set(keys[:3])) == 3


async def test_browsers_are_answered_with_their_origin(writer: StubWriter) -> None:
    client = make_client(writer, cors_origins=("https://a.example",))
    origin = {"origin": "https://a.example"}
    asked = await client.request("OPTIONS", "/v1/records", headers=origin)
    assert asked.status == 204
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "idempotency-key" in asked.headers["access-control-allow-headers"]
    for body in (ONE, b"nope"):
        reply = await client.post(body, origin)
        assert reply.headers["access-control-allow-origin"] == "https://a.example"


async def test_paths_and_methods_that_are_not_there(writer: StubWriter) -> None:
    client = make_client(writer)
    assert is_problem(await client.request("GET", "/"), 404)
    wrong = await client.request("GET", "/v1/records")
    assert is_problem(wrong, 405)
    assert wrong.headers["allow"] == "POST"
    assert is_problem(await client.request("POST", "/livez"), 405)


async def test_requests_and_records_are_counted(writer: StubWriter) -> None:
    metrics = Metrics()
    client = make_client(writer, metrics=metrics)
    await client.post(batch({"app": "a"}, {"app": "b"}, {}))
    await client.post(b"nope")
    text = (await client.request("GET", "/metrics")).body.decode()
    for line in (
        'pipeline_ingest_requests_total{status="207"} 1.0',
        'pipeline_ingest_requests_total{status="422"} 1.0',
        'pipeline_ingest_records_total{status="202"} 2.0',
        'pipeline_ingest_records_total{status="422"} 2.0',
        "pipeline_ingest_request_seconds_count 2.0",
    ):
        assert line in text


async def test_a_mistake_of_the_endpoint_is_a_500_and_in_the_log(
    writer: StubWriter, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Invalid:
        raise RuntimeError("broken")

    assert is_problem(await make_client(writer, check=broken).post(ONE), 500)
    assert "a request failed" in caplog.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("app"), inner),
    max_leaves=10,
)
BODIES = (
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.lists(JSON_VALUES.map(json.dumps)).map(lambda lines: "\n".join(lines).encode())
)
TYPES = st.sampled_from(["application/json", "application/x-ndjson"])


@given(
    bodies=st.lists(st.tuples(BODIES, TYPES), max_size=3),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "content-encoding", "idempotency-key", "authorization",
                         "content-length", "origin"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        max_size=2,
    ),
)  # fmt: skip
def test_whatever_is_sent_is_answered_and_never_by_a_500(
    bodies: list[tuple[bytes, str]], headers: dict[str, str]
) -> None:
    async def send() -> None:
        writer = StubWriter()
        client = make_client(writer, cors_origins=("https://a.example",))
        accepted = 0
        for body, kind in bodies:
            reply = await client.post(body, {"content-type": kind, **headers})
            assert reply.status in (202, 207, 413, 415, 422)
            accepted += _accepted(reply)
        assert accepted == len(writer.messages)

    trio.run(send)


def _accepted(reply: Reply) -> int:
    if reply.status not in (202, 207):
        return 0
    return int(reply.json.get("accepted", 1))
