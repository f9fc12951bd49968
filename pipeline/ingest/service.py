"""The composition root of `pipeline ingest`.

run
├── receipts     asks the ledgers for whoever waits, if receipts are configured
├── writer       connects to Kafka, knows whether it answers, renews its producer
├── limits       follows the control topic: the rates of tenants that operators wish
├── collector    frees cycles, now and then
├── summary      a line per minute of what was accepted and refused
├── status       /, /metrics, /livez, /readyz of this process, if ingest.status is configured
├── http         /v1/records, /openapi.json, /metrics, /livez, /readyz
├── reports      what the service manager is told, if there is one
└── signals      SIGTERM, SIGINT, SIGHUP: accept no more, answer what is under way, end; a second: cancel
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import trio

from pipeline.config.ingest import placement
from pipeline.config.model import Config, IngestConfig
from pipeline.errors import PipelineError
from pipeline.ingest.instance import IngestInstance
from pipeline.ingest.outcomes import ShardOutcomes
from pipeline.ingest.settings import read_certificate, read_schema, require_ingest
from pipeline.kafka.batch_producer import DELIVERY_SECONDS
from pipeline.postgres.connections.bridge import open_bridge
from pipeline.runtime import signals
from pipeline.supervise.reports import Reports
from pipeline.supervise.stop import Stop
from pipeline.supervise.supervision import Supervision
from pipeline.web.binding import Inherited, ListenError, Tcp, activated, listen
from pipeline.web.server import serve
from pipeline.web.tls import Tls

log = logging.getLogger(__name__)

DRAIN_SECONDS = DELIVERY_SECONDS + 5.0
"""How long requests under way may take after SIGTERM: none has to wait for Kafka any longer."""

DRAINING = "draining: no more is accepted, what is under way is answered"

CLOSE_SECONDS = 10.0
"""How long the end may take after the drain."""


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
    schema, tls = read_schema(config, ingest), read_certificate(config, ingest)
    place = placement(config)
    with signals.received() as received:
        async with _open_receipts(config, place.topic) as receipts:
            instance = IngestInstance(config, place, schema, tls, receipts)
            async with trio.open_nursery() as process:
                reports = Reports(supervision.notifier)
                process.start_soon(reports.run)
                stop = Stop(process.cancel_scope, reports, DRAIN_SECONDS + CLOSE_SECONDS, DRAINING)
                process.start_soon(stop.carry_out, received)
                await instance.start(process)
                listeners = await _listen(ingest, tls)
                with ExitStack() as drainable:
                    async with trio.open_nursery() as serving:
                        server = await serving.start(
                            partial(
                                serve, instance.application, listeners, instance.limits, tls=tls
                            )
                        )
                        reload = supervision.reloading(config, instance.live(), instance.unused)
                        drain = partial(instance.drain, server, DRAIN_SECONDS)
                        drainable.enter_context(stop.draining_by(drain, reload))
                        reports.tell_of(instance.standing)
                await instance.writer.wait_idle()
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
