"""The trace of a request, on its way into its records' headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pipeline.ingest.trace_context import LONGEST_STATE, trace_headers
from tests.support.ingest import JSON, NDJSON, StubWriter, make_client

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT = {"traceparent": PARENT.decode(), "tracestate": "vendor=1,other=2"}
CARRIED = [("traceparent", PARENT), ("tracestate", b"vendor=1,other=2")]


async def test_a_record_carries_the_trace_of_its_request() -> None:
    writer = StubWriter()
    client = make_client(writer)
    await client.request("POST", "/v1/records", b'{"app": "a", "n": 1}', {**JSON, **SENT})
    ((_, _, headers),) = writer.messages
    assert headers == CARRIED


async def test_each_record_of_a_batch_does_beside_its_idempotency_key() -> None:
    writer = StubWriter()
    body = b'{"app": "a", "n": 1}\n{"app": "b", "n": 2}'
    sent = {**NDJSON, **SENT, "idempotency-key": "k"}
    await make_client(writer).request("POST", "/v1/records", body, sent)
    assert len(writer.messages) == 2
    for _, _, headers in writer.messages:
        assert [name for name, _ in headers] == ["idempotency-key", "traceparent", "tracestate"]
        assert headers[1:] == CARRIED


async def test_without_a_trace_a_record_has_no_headers() -> None:
    writer = StubWriter()
    lone = {**JSON, "tracestate": "vendor=1"}
    for headers in (JSON, lone):
        await make_client(writer).request("POST", "/v1/records", b'{"app": "a", "n": 1}', headers)
    assert [headers for _, _, headers in writer.messages] == [[], []]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"-more",
        PARENT.replace(b"00-", b"ff-"),
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
        PARENT + b"\n",
        b"01" + PARENT[2:] + b"-" + b"x" * 200,
    ],
)
def test_what_names_no_trace_is_not_passed_on(value: bytes) -> None:
    assert trace_headers([(b"traceparent", value), (b"tracestate", b"a=1")]) == []


def test_a_version_to_come_may_say_more() -> None:
    value = b"01" + PARENT[2:] + b"-more"
    assert trace_headers([(b"traceparent", value)]) == [("traceparent", value)]


def test_two_traces_are_none() -> None:
    assert trace_headers([(b"traceparent", PARENT)] * 2) == []


def test_a_state_in_several_headers_is_one_list() -> None:
    sent = [(b"tracestate", b"a=1"), (b"traceparent", PARENT), (b"tracestate", b"b=2")]
    assert trace_headers(sent) == [("traceparent", PARENT), ("tracestate", b"a=1,b=2")]


def test_a_state_that_is_too_long_is_left_out_and_the_trace_is_not() -> None:
    for length, carried in ((LONGEST_STATE, 2), (LONGEST_STATE + 1, 1)):
        state = b"a=" + b"x" * (length - 2)
        assert len(trace_headers([(b"traceparent", PARENT), (b"tracestate", state)])) == carried


@given(
    st.from_regex(
        r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{1,4})?", fullmatch=True
    )
    | st.text(st.characters(codec="ascii"), max_size=60)
)
def test_what_opentelemetry_reads_as_a_trace_is_passed_on(value: str) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": value})
    read = get_current_span(context).get_span_context().is_valid
    assert bool(trace_headers([(b"traceparent", value.encode())])) == read
