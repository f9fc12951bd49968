"""A span for each batch, by OpenTelemetry, for whoever follows a request to its row.

A batch has records of many requests, so its span has no parent: it links to each span that the
records' ``traceparent`` headers name. Whether there are spans is decided once, at the start. Without
OpenTelemetry, or unless its own variables ask for it, nothing stands between a batch and its
transaction.

What a span tells is named as OpenTelemetry's conventions for messaging and databases name it. It holds
no value of a record; so an error is told by its class and SQLSTATE, never by its message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pipeline.records.record import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link

log = logging.getLogger(__name__)

HEADER = "traceparent"
STATE = "tracestate"

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTERS = "OTEL_TRACES_EXPORTER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
DISABLED = "OTEL_SDK_DISABLED"

L = TypeVar("L")
Write = Callable[[L, Sequence[Record]], Coroutine[Any, Any, int]]
"""What applies a batch under a lease and returns how many rows it sent."""


@attrs.frozen
class Tracing:
    """Makes the spans.

    Attributes:
        provider: of OpenTelemetry's SDK.
        most_links: how many links a span may have.
        sqlstate_of: the code of an error of Postgres; None if it is none.
    """

    provider: TracerProvider
    most_links: int
    sqlstate_of: Callable[[BaseException], str | None]

    def traced(self, shard: str, write: Write[L]) -> Write[L]:
        """Return ``write`` with a span around each call. What a handler traces is within it."""
        from opentelemetry.trace import SpanKind, StatusCode

        tracer = self.provider.get_tracer("pipeline")

        async def traced_write(lease: L, records: Sequence[Record]) -> int:
            with tracer.start_as_current_span(
                f"process {records[0].topic}",
                kind=SpanKind.CONSUMER,
                links=list(links_of(records, self.most_links)),
                attributes={**_attributes(records), "pipeline.shard": shard},
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    rows = await write(lease, records)
                except BaseException as error:  # raised again
                    name = type(error).__name__
                    span.set_status(StatusCode.ERROR, name)
                    span.set_attribute("error.type", name)
                    if sqlstate := self.sqlstate_of(error):
                        span.set_attribute("db.response.status_code", sqlstate)
                    raise
                span.set_attribute("pipeline.rows", rows)
                return rows

        return traced_write

    def close(self) -> None:
        """Send what is left. Blocks, for as long as the exporter's own time-out."""
        self.provider.shutdown()


def _attributes(records: Sequence[Record]) -> dict[str, str | int]:
    offsets = [record.offset for record in records]
    return {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": records[0].topic,
        "messaging.destination.partition.id": str(records[0].partition),
        "messaging.batch.message_count": len(records),
        "messaging.kafka.offset": min(offsets),
        "pipeline.last_offset": max(offsets),
        "db.system.name": "postgresql",
    }


def links_of(records: Sequence[Record], most: int) -> Iterator[Link]:
    """Yield a link for each different ``traceparent`` of the records that is valid; ``most`` at most."""
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    seen: set[bytes] = set()
    for record in records:
        headers = dict(record.headers or ())
        parent = headers.get(HEADER)
        if parent is None or parent in seen:
            continue
        seen.add(parent)
        named = {HEADER: parent, STATE: headers.get(STATE) or b""}
        carrier = {name: value.decode("ascii", "replace") for name, value in named.items()}
        context = get_current_span(propagator.extract(carrier)).get_span_context()
        if context.is_valid:
            yield Link(context)
            most -= 1
            if most <= 0:
                return


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's variables name a place to send spans to."""
    if environ.get(DISABLED, "").strip().lower() == "true":
        return False
    exporters = environ.get(EXPORTERS, "").strip()
    if exporters:
        return exporters != "none"
    return any(environ.get(name) for name in ENDPOINTS)


def open_tracing(
    environ: Mapping[str, str], sqlstate_of: Callable[[BaseException], str | None]
) -> Tracing | None:
    """Return what makes spans; None if nothing asks for them, or if OpenTelemetry is not installed.

    The SDK reads its variables itself: resource, sampler, limits, exporters. A provider that is set
    already, as by ``opentelemetry-instrument``, is taken as it is.
    """
    if not is_asked_for(environ):
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider

        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            provider = _provider(environ)
    except (ImportError, LookupError) as error:
        log.warning(
            "OpenTelemetry is asked for, and there are no spans: %s; "
            "pip install 'kafka-to-postgres[otel]'", error,
        )  # fmt: skip
        return None
    log.info("a span for each batch goes to OpenTelemetry")
    return Tracing(provider, SpanLimits().max_links or 128, sqlstate_of)


def _provider(environ: Mapping[str, str]) -> TracerProvider:
    """Make a provider with the exporters that the environment names.

    Raises:
        LookupError: there is no exporter of that name.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporters = [_exporter(name) for name in _exporters(environ)]
    resource = Resource.create(
        {} if "OTEL_SERVICE_NAME" in environ else {"service.name": "pipeline"}
    )
    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporters(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the names of the exporters, as the SDK's entry points have them."""
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), "http/protobuf")
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for name in (environ.get(EXPORTERS) or "otlp").split(","):
        yield otlp if name.strip() == "otlp" else name.strip()


def _exporter(name: str) -> Any:
    found = tuple(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise LookupError(f"no exporter is installed under the name {name}")
    return found[0].load()()
