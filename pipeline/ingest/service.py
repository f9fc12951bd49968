"""The composition root of `pipeline ingest`.

run
├── writer       connects to Kafka, knows whether it answers, renews its producer
├── summary      a line per minute of what was accepted and refused
├── http         /v1/records, /openapi.json, /metrics, /livez, /readyz
└── signals      SIGTERM, SIGINT, SIGHUP: accept no more, answer what is under way, end; a second: cancel
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import trio

from pipeline.config.ingest import placement
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config, IngestConfig
from pipeline.errors import PipelineError
from pipeline.ingest.application import IngestApplication
from pipeline.ingest.cors import Cors
from pipeline.ingest.endpoint import RecordsEndpoint
from pipeline.ingest.health import IngestHealth
from pipeline.ingest.openapi import document
from pipeline.ingest.rates import TenantRates
from pipeline.ingest.records import Preparation
from pipeline.ingest.summary import Summary
from pipeline.ingest.validation import Check, SchemaError, schema_check
from pipeline.kafka.batch_producer import DELIVERY_SECONDS
from pipeline.kafka.topic_writer import TopicWriter
from pipeline.observe.metrics import Metrics
from pipeline.runtime import signals
from pipeline.web.binding import ListenError, Tcp, listen
from pipeline.web.limits import Limits
from pipeline.web.server import Server, serve
from pipeline.web.tls import Tls, TlsError

log = logging.getLogger(__name__)

DRAIN_SECONDS = DELIVERY_SECONDS + 5.0
"""How long requests under way may take after SIGTERM: none has to wait for Kafka any longer."""

CONNECTIONS = 10_000


async def run(config: Config) -> None:
    """Take records until SIGTERM, SIGINT or SIGHUP. On the main thread.

    Raises:
        ConfigError: the configuration has no [ingest], or names files that can't be used.
        PipelineError: Kafka does not answer, the topic is not there, the address is taken.
    """
    ingest = require_ingest(config)
    schema, check = read_schema(config, ingest)
    tls = read_certificate(config, ingest)
    metrics = Metrics()
    place = placement(config)
    with signals.received() as received:
        writer = TopicWriter(config.kafka, place.topic, f"{config.pipeline.name}-ingest")
        metrics.add_source(lambda: metrics.ingest_pending.set(writer.pending_records))
        health = IngestHealth(writer)
        rate = ingest.rate_per_tenant
        rates = None if rate is None else TenantRates(trio.current_time, lambda _: rate)
        application = IngestApplication(
            RecordsEndpoint(ingest, writer, Preparation(place, check, rates)),
            metrics,
            health,
            document(schema, place.required, with_tokens=bool(ingest.tokens)),
            Cors(ingest.cors_origins),
        )
        async with trio.open_nursery() as process:
            stop = _Stop(process.cancel_scope, health)
            process.start_soon(stop.carry_out, received)
            await process.start(writer.run)
            process.start_soon(Summary(metrics).run)
            await _serve(ingest, application, tls, stop)
            await writer.wait_idle()
            process.cancel_scope.cancel()


async def _serve(
    ingest: IngestConfig,
    application: IngestApplication,
    tls: Tls | None,
    stop: _Stop,
) -> None:
    """Serve until a drain is complete. Other processes may listen at the same address."""
    host, port = ingest.listen
    try:
        listeners = await listen(Tcp(host, port, reuse_port=True))
    except ListenError as error:
        raise PipelineError(f"{error}; give ingest.listen another address or port") from error
    # The application refuses what is larger, in its own words; the server is the second line.
    limits = Limits(connections=CONNECTIONS, body_bytes=2 * ingest.max_body_bytes)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, application, listeners, limits, tls=tls))
        port = listeners[0].getsockname()[1]
        scheme = "http" if tls is None else "https"
        shown = f"[{host}]" if ":" in host else host
        log.info("taking records on %s://%s:%d/v1/records", scheme, shown, port)
        stop.server = server


class _Stop:
    """What a signal does: the first drains, once the server is there; any other cancels."""

    def __init__(self, everything: trio.CancelScope, health: IngestHealth) -> None:
        self._everything = everything
        self._health = health
        self.server: Server | None = None

    async def carry_out(self, received: AsyncIterator[int]) -> None:
        async for number in received:
            name = signal.Signals(number).name
            if self.server is None or self._health.draining:
                log.warning("%s: cancelling", name)
                self._everything.cancel()
                return
            log.warning("%s: draining: no more is accepted, what is under way is answered", name)
            self._health.draining = True
            self.server.drain(DRAIN_SECONDS)


def require_ingest(config: Config) -> IngestConfig:
    """Return [ingest].

    Raises:
        ConfigError: there is none.
    """
    if config.ingest is None:
        why = 'missing: pipeline ingest needs it; at least listen = "127.0.0.1:8080"'
        raise ConfigError(config.source, [Mistake("ingest", why)])
    return config.ingest


def read_schema(config: Config, ingest: IngestConfig) -> tuple[Any, Check | None]:
    """Read the schema, if one is named; its path starts at the configuration's folder.

    Raises:
        ConfigError: it can't be used.
    """
    if ingest.schema is None:
        return None, None
    try:
        return schema_check(_beside(config, ingest.schema))
    except SchemaError as error:
        raise ConfigError(config.source, [Mistake("ingest.schema", str(error))]) from error


def read_certificate(config: Config, ingest: IngestConfig) -> Tls | None:
    """Read the certificate, if one is named; the paths start at the configuration's folder.

    Raises:
        ConfigError: it can't be used.
    """
    if ingest.tls_cert is None or ingest.tls_key is None:
        return None
    try:
        return Tls(_beside(config, ingest.tls_cert), _beside(config, ingest.tls_key))
    except TlsError as error:
        raise ConfigError(config.source, [Mistake("ingest.tls_cert", str(error))]) from error


def _beside(config: Config, path: str) -> Path:
    return Path(config.source).parent / Path(path).expanduser()
