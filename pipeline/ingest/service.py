"""The composition root of `pipeline ingest`.

run
├── receipts     asks the ledgers for whoever waits, if receipts are configured
├── writer       connects to Kafka, knows whether it answers, renews its producer
├── limits       follows the control topic: the rates of tenants that operators wish
├── summary      a line per minute of what was accepted and refused
├── status       /, /metrics, /livez, /readyz of this process, if ingest.status is configured
├── http         /v1/records, /openapi.json, /metrics, /livez, /readyz
├── reports      what the service manager is told, if there is one
└── signals      SIGTERM, SIGINT, SIGHUP: accept no more, answer what is under way, end; a second: cancel
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from pipeline.config.ingest import placement
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config, HttpConfig, IngestConfig
from pipeline.contracts.presence import Presences
from pipeline.contracts.wishes import Wishes
from pipeline.dashboard.identity import Identity
from pipeline.dashboard.ingest_model import IngestModel
from pipeline.dashboard.serving import start_dashboard
from pipeline.errors import PipelineError
from pipeline.ingest.application import IngestApplication
from pipeline.ingest.cors import Cors
from pipeline.ingest.endpoint import RecordsEndpoint
from pipeline.ingest.health import IngestHealth
from pipeline.ingest.limits import TenantLimits
from pipeline.ingest.openapi import document
from pipeline.ingest.outcomes import ShardOutcomes
from pipeline.ingest.rates import TenantRates
from pipeline.ingest.records import Preparation
from pipeline.ingest.standing import IngestStanding
from pipeline.ingest.summary import Summary
from pipeline.ingest.validation import Check, SchemaError, schema_check
from pipeline.kafka.announcer import announce
from pipeline.kafka.batch_producer import DELIVERY_SECONDS
from pipeline.kafka.control_follower import ControlFollower
from pipeline.kafka.topic_writer import TopicWriter
from pipeline.observe.metrics import Metrics
from pipeline.observe.process import process_source
from pipeline.postgres.connections.bridge import open_bridge
from pipeline.runtime import signals
from pipeline.supervise.reload import Apply
from pipeline.supervise.reports import Reports
from pipeline.supervise.stop import Stop
from pipeline.supervise.supervision import Supervision
from pipeline.web.binding import Inherited, ListenError, Tcp, activated, listen
from pipeline.web.limits import Limits
from pipeline.web.server import Server, serve
from pipeline.web.tls import Tls, TlsError

log = logging.getLogger(__name__)

DRAIN_SECONDS = DELIVERY_SECONDS + 5.0
"""How long requests under way may take after SIGTERM: none has to wait for Kafka any longer."""

DRAINING = "draining: no more is accepted, what is under way is answered"

CLOSE_SECONDS = 10.0
"""How long the end may take after the drain."""

CONNECTIONS = 10_000

LIVE = ("ingest.tokens", "ingest.rate_per_tenant", "ingest.max_pending")
"""What a reload can change, beside the certificate's files."""

UNUSED = ("sink", "shards", "limits", "errors", "http")
"""Sections of the configuration that are for the consumer."""

UNUSED_WITH_RECEIPTS = tuple(section for section in UNUSED if section not in ("shards", "limits"))
"""The same where the ledgers are read: how shards are reached matters then."""


async def run(
    config: Config,
    supervision: Supervision = Supervision(),  # noqa: B008 (frozen)
) -> None:
    """Take records until SIGTERM, SIGINT or SIGHUP. On the main thread.

    Under a service manager (``supervision``) SIGHUP reads the configuration again instead. Sockets that
    systemd opened are served in place of ``ingest.listen``.

    Raises:
        ConfigError: the configuration has no [ingest], or names files that can't be used.
        PipelineError: Kafka does not answer, the topic is not there, the address is taken.
    """
    ingest = require_ingest(config)
    schema, check = read_schema(config, ingest)
    tls = read_certificate(config, ingest)
    metrics = Metrics()
    metrics.exposition.add_source(process_source(metrics))
    place = placement(config)
    wishes, presences = Wishes(), Presences()
    tenants = TenantLimits(wishes, ingest.rate_per_tenant)
    with signals.received() as received:
        async with _open_receipts(config, place.topic) as receipts:
            writer_name = f"{config.pipeline.name}-ingest"
            writer = TopicWriter(config.kafka, place.topic, writer_name)
            metrics.exposition.add_source(
                lambda: metrics.ingest_pending.set(writer.pending_records)
            )
            health = IngestHealth(writer)
            endpoint = RecordsEndpoint(
                ingest,
                writer,
                Preparation(place, check, TenantRates(trio.current_time, tenants.rate_of)),
                None if receipts is None else receipts.outcomes,
            )
            tokens, told = bool(ingest.tokens), ingest.receipts
            openapi = document(schema, place.required, with_tokens=tokens, with_receipts=told)
            cors = Cors(ingest.cors_origins)
            application = IngestApplication(endpoint, metrics, health, openapi, cors)
            async with trio.open_nursery() as process:
                reports = Reports(supervision.notifier)
                process.start_soon(reports.run)
                stop = Stop(process.cancel_scope, reports, DRAIN_SECONDS + CLOSE_SECONDS, DRAINING)
                process.start_soon(stop.carry_out, received)
                if receipts is not None:
                    process.start_soon(receipts.run)
                await process.start(writer.run)
                if ingest.status is not None:
                    model = IngestModel(
                        Identity.of(config, "ingest"), metrics, lambda: writer.pending_records,
                        health.ready,
                    )  # fmt: skip
                    await _serve_status(
                        config, ingest.status, model, metrics, health, presences, process
                    )
                process.start_soon(Summary(metrics).run)
                await process.start(
                    ControlFollower(config.kafka, writer_name, wishes, presences).run
                )
                tenants.obey()
                process.start_soon(tenants.run)
                listeners = await _listen(ingest, tls)
                # The application refuses what is larger, in its own words; the server is the second line.
                limits = Limits(connections=CONNECTIONS, body_bytes=2 * ingest.max_body_bytes)
                with ExitStack() as drainable:
                    async with trio.open_nursery() as serving:
                        server = await serving.start(
                            partial(serve, application, listeners, limits, tls=tls)
                        )
                        unused = UNUSED if receipts is None else UNUSED_WITH_RECEIPTS
                        reload = supervision.reloading(
                            config, _live(endpoint, tenants, tls), unused
                        )
                        drain = partial(_drain, server, health, receipts)
                        drainable.enter_context(stop.draining_by(drain, reload))
                        reports.tell_of(IngestStanding(health, metrics))
                await writer.wait_idle()
                process.cancel_scope.cancel()


@asynccontextmanager
async def _open_receipts(config: Config, topic: str) -> AsyncIterator[ShardOutcomes | None]:
    """What tells receipts, if they are configured, with the bridge to Postgres around it.

    Raises:
        UsageError: a ledger may not be read.
    """
    if not require_ingest(config).receipts:
        yield None
        return
    async with open_bridge():
        receipts = ShardOutcomes(config, topic)
        await receipts.check()
        yield receipts


async def _listen(ingest: IngestConfig, tls: Tls | None) -> list[socket.socket]:
    """Listen where systemd or else the configuration says. Other processes may listen there too."""
    host, port = ingest.listen
    binding = Inherited() if activated() else Tcp(host, port, reuse_port=True)
    try:
        listeners = await listen(binding)
    except ListenError as error:
        raise PipelineError(f"{error}; give ingest.listen another address or port") from error
    scheme = "http" if tls is None else "https"
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            where = f"{listener.getsockname()} by {scheme}, /v1/records"
        else:
            where = f"{scheme}://{Tcp(*listener.getsockname()[:2])}/v1/records"
        whose = ", which systemd opened" if isinstance(binding, Inherited) else ""
        log.info("taking records on %s%s", where, whose)
    return listeners


async def _serve_status(
    config: Config,
    status: tuple[str, int],
    model: IngestModel,
    metrics: Metrics,
    health: IngestHealth,
    presences: Presences,
    process: trio.Nursery,
) -> None:
    """Serve this process's own metrics, probes and dashboard, apart from where records are taken.

    Several processes may take records at one address, and a request there reaches any of them.
    """
    tokens = () if config.http is None else config.http.tokens
    await start_dashboard(
        process, HttpConfig(*status, tokens), metrics, health, model, presences,
        partial(announce, config, presences),
    )  # fmt: skip


async def _drain(server: Server, health: IngestHealth, receipts: ShardOutcomes | None) -> None:
    health.draining = True
    if receipts is not None:
        receipts.end("the endpoint is being stopped: ask again")
    server.drain(DRAIN_SECONDS)


def _live(endpoint: RecordsEndpoint, limits: TenantLimits, tls: Tls | None) -> Mapping[str, Apply]:
    """Return what a reload can change, and how; the certificate's files are read again."""

    def change(config: Config) -> None:
        ingest = require_ingest(config)
        try:
            if tls is not None:
                tls.reload()
        except TlsError as error:
            raise ConfigError(config.source, [Mistake("ingest.tls_cert", str(error))]) from error
        endpoint.change(ingest)
        limits.rate = ingest.rate_per_tenant

    return dict.fromkeys(LIVE, change)


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
