"""A span for each batch, read back from OpenTelemetry's exporter in memory."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from pipeline.config.load import load
from pipeline.observe.metrics import Metrics
from pipeline.observe.tracing import Tracing, is_asked_for, open_tracing
from pipeline.postgres.connections.errors import sqlstate_of
from pipeline.postgres.connections.session import Session
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.records.record import Record
from pipeline.runtime.backoff import Backoff
from pipeline.stores import make_database
from tests.support.configurations import sink
from tests.support.records import SOURCE, Raw

TRACE = "0af7651916cd43dd8448eb211c80319c"


def parent(span: int) -> bytes:
    """A ``traceparent`` of that span."""
    return f"00-{TRACE}-{span:016x}-01".encode()


def record(offset: int, **headers: bytes | None) -> Record:
    return Record(SOURCE, offset, Raw(offset, headers=list(headers.items())), None, offset)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider, 3, sqlstate_of)


async def write(lease: str, records: Sequence[Record]) -> int:
    assert lease == "the lease"
    return 2 * len(records)


def linked(exporter: InMemorySpanExporter) -> list[str]:
    """The spans that the only span links to."""
    (span,) = exporter.get_finished_spans()
    assert {format_trace_id(link.context.trace_id) for link in span.links} <= {TRACE}
    return [format_span_id(link.context.span_id) for link in span.links]


async def test_a_batch_is_a_span_that_links_to_the_spans_of_its_records(
    exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    records = [record(7, traceparent=parent(1)), record(9), record(8, traceparent=parent(2))]
    assert await tracing.traced("db0", write)("the lease", records) == 6
    assert linked(exporter) == [f"{1:016x}", f"{2:016x}"]
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, span.parent) == ("process sessions", SpanKind.CONSUMER, None)
    assert dict(span.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "sessions",
        "messaging.destination.partition.id": "0",
        "messaging.batch.message_count": 3,
        "messaging.kafka.offset": 7,
        "pipeline.last_offset": 9,
        "pipeline.shard": "db0",
        "pipeline.rows": 6,
        "db.system.name": "postgresql",
    }


async def test_links_are_valid_different_and_bounded(
    exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    headers = [b"\xff", None, parent(0), parent(5), parent(5), parent(6), parent(7), parent(8)]
    records = [record(offset, traceparent=value) for offset, value in enumerate(headers)]
    await tracing.traced("db0", write)("the lease", records)
    assert linked(exporter) == [f"{span:016x}" for span in (5, 6, 7)]


async def test_the_state_of_a_trace_goes_along(
    exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    records = [record(0, traceparent=parent(1), tracestate=b"vendor=7")]
    await tracing.traced("db0", write)("the lease", records)
    (span,) = exporter.get_finished_spans()
    assert span.links[0].context.trace_state["vendor"] == "7"


class RefusedError(Exception):
    sqlstate = "23514"


async def test_an_error_is_told_by_class_and_sqlstate_and_by_no_value(
    exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    async def refuse(_: str, __: Sequence[Record]) -> int:
        raise RefusedError("Failing row contains (7, s3cr3t)")

    with pytest.raises(RefusedError):
        await tracing.traced("db0", refuse)("the lease", [record(0)])
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "RefusedError")
    assert (span.attributes or {})["db.response.status_code"] == "23514"
    assert "s3cr3t" not in span.to_json()


async def test_what_a_handler_traces_is_within_the_span_of_its_batch(
    exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    async def handler(_: str, __: Sequence[Record]) -> int:
        with tracing.provider.get_tracer("mine").start_as_current_span("ask the service"):
            return 0

    await tracing.traced("db0", handler)("the lease", [record(0)])
    inner, batch = exporter.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == batch.context.span_id


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "pipeline"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_its_own_variables_ask_for_it(environ: Mapping[str, str], asked: bool) -> None:
    assert is_asked_for(environ) is asked


def test_an_exporter_is_found_by_its_name() -> None:
    for name, its_class in (("console", "ConsoleSpanExporter"), ("otlp", "OTLPSpanExporter")):
        tracing = open_tracing({"OTEL_TRACES_EXPORTER": name}, sqlstate_of)
        assert tracing is not None
        (processor,) = tracing.provider._active_span_processor._span_processors
        assert type(processor.span_exporter).__name__ == its_class  # type: ignore[attr-defined]
        tracing.close()


def test_an_exporter_that_is_not_installed_is_told_and_nothing_else_happens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert open_tracing({"OTEL_TRACES_EXPORTER": "zipkin"}, sqlstate_of) is None
    assert "no exporter is installed under the name zipkin" in caplog.text
    assert logging.getLevelNamesMapping()["WARNING"] == caplog.records[0].levelno


def test_without_being_asked_for_nothing_of_it_is_imported() -> None:
    code = (
        "import sys; from pipeline.observe.tracing import open_tracing;"
        "import pipeline.service;"
        "assert open_tracing({}, str) is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_without_it_a_batch_goes_straight_to_its_transaction(
    tmp_path: Path, tracing: Tracing
) -> None:
    (tmp_path / "user_code.py").write_text("async def apply(tx, records): ...\n")
    path = tmp_path / "p.toml"
    text = sink('handler = "user_code:apply"')
    path.write_text(text.replace("[pipeline]", '[pipeline]\ndelivery = "at-least-once"'))
    config = load(path)
    shard = Shard(
        config.shards[0], Session.of(config, config.shards[0]), Metrics(), Backoff(1, 1),
        handled=True, adaptive=False,
    )  # fmt: skip
    sizer = BatchSizers(10, bounded=True)
    straight = await make_database(config, shard, sizer)
    assert straight.write.__qualname__ == "HandlerApplier.write"
    traced = await make_database(config, shard, sizer, tracing)
    assert traced.write.__qualname__ != straight.write.__qualname__
