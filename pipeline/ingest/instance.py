"""The parts of an endpoint that runs, and how they know each other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import trio

from pipeline.config.ingest import Placement
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config, HttpConfig
from pipeline.contracts.presence import Presences
from pipeline.contracts.wishes import Wishes
from pipeline.dashboard.identity import Identity
from pipeline.dashboard.ingest_model import IngestModel
from pipeline.dashboard.serving import start_dashboard
from pipeline.ingest.application import IngestApplication
from pipeline.ingest.cors import Cors
from pipeline.ingest.endpoint import RecordsEndpoint
from pipeline.ingest.health import IngestHealth
from pipeline.ingest.limits import TenantLimits
from pipeline.ingest.openapi import document
from pipeline.ingest.outcomes import ShardOutcomes
from pipeline.ingest.rates import TenantRates
from pipeline.ingest.records import Preparation
from pipeline.ingest.settings import require_ingest
from pipeline.ingest.standing import IngestStanding
from pipeline.ingest.summary import Summary
from pipeline.ingest.validation import Check
from pipeline.kafka.announcer import announce
from pipeline.kafka.control_follower import ControlFollower
from pipeline.kafka.topic_writer import TopicWriter
from pipeline.observe.metrics import Metrics
from pipeline.observe.process import process_source
from pipeline.runtime.collector import collect_cycles
from pipeline.supervise.reload import Apply
from pipeline.web.limits import Limits
from pipeline.web.server import Server
from pipeline.web.tls import Tls, TlsError

CONNECTIONS = 10_000

LIVE = ("ingest.tokens", "ingest.rate_per_tenant", "ingest.max_pending")
"""What a reload can change, beside the certificate's files."""

UNUSED = ("sink", "shards", "limits", "errors", "http")
"""Sections of the configuration that are for the consumer."""

UNUSED_WITH_RECEIPTS = tuple(section for section in UNUSED if section not in ("shards", "limits"))
"""The same where the ledgers are read: how shards are reached matters then."""


class IngestInstance:
    """An endpoint with all that it needs to answer.

    Args:
        config: what to do.
        place: the topic, and where in it records go.
        schema: what a record must be like, as it is told and as it is checked; see `read_schema`.
        tls: the certificate, if there is one.
        receipts: what tells receipts, if they are configured.
    """

    def __init__(
        self,
        config: Config,
        place: Placement,
        schema: tuple[Any, Check | None],
        tls: Tls | None,
        receipts: ShardOutcomes | None,
    ) -> None:
        ingest = require_ingest(config)
        described, check = schema
        self._config = config
        self._tls = tls
        self._receipts = receipts
        self._metrics = metrics = Metrics()
        self._wishes, self._presences = Wishes(), Presences()
        self._tenants = TenantLimits(self._wishes, ingest.rate_per_tenant)
        self._name = f"{config.pipeline.name}-ingest"
        self.writer = writer = TopicWriter(config.kafka, place.topic, self._name)
        self._health = IngestHealth(writer)
        self._endpoint = RecordsEndpoint(
            ingest,
            writer,
            Preparation(place, check, TenantRates(trio.current_time, self._tenants.rate_of)),
            None if receipts is None else receipts.outcomes,
        )
        tokens, told = bool(ingest.tokens), ingest.receipts
        openapi = document(described, place.required, with_tokens=tokens, with_receipts=told)
        cors = Cors(ingest.cors_origins)
        self.application = IngestApplication(self._endpoint, metrics, self._health, openapi, cors)
        # The application refuses what is larger, in its own words; the server is the second line.
        self.limits = Limits(connections=CONNECTIONS, body_bytes=2 * ingest.max_body_bytes)
        self.standing = IngestStanding(self._health, metrics)
        self.unused = UNUSED if receipts is None else UNUSED_WITH_RECEIPTS

    async def start(self, process: trio.Nursery) -> None:
        """Start all that goes on beside the server. A checkpoint.

        When it returns, Kafka answers, and what operators wish is known.

        Raises:
            PipelineError: Kafka does not answer, or the topic is not there.
        """
        metrics, writer = self._metrics, self.writer
        metrics.exposition.add_source(process_source(metrics))
        metrics.exposition.add_source(lambda: metrics.ingest_pending.set(writer.pending_records))
        if self._receipts is not None:
            process.start_soon(self._receipts.run)
        await process.start(writer.run)
        await self._serve_status(process)
        process.start_soon(collect_cycles)
        process.start_soon(Summary(metrics).run)
        kafka = self._config.kafka
        follower = ControlFollower(kafka, self._name, self._wishes, self._presences)
        await process.start(follower.run)
        self._tenants.obey()
        process.start_soon(self._tenants.run)

    async def _serve_status(self, process: trio.Nursery) -> None:
        """Serve this process's own metrics, probes and dashboard, apart from where records are taken.

        Several processes may take records at one address, and a request there reaches any of them.
        """
        config, metrics, health, writer = self._config, self._metrics, self._health, self.writer
        status = require_ingest(config).status
        if status is None:
            return
        tokens = () if config.http is None else config.http.tokens
        identity = Identity.of(config, "ingest")
        model = IngestModel(identity, metrics, lambda: writer.pending_records, health.ready)
        await start_dashboard(
            process, HttpConfig(*status, tokens), metrics, health, model, self._presences,
            partial(announce, config, self._presences),
        )  # fmt: skip

    async def drain(self, server: Server, seconds: float) -> None:
        """Take no more, and let ``server`` answer what is under way. Not a checkpoint."""
        self._health.draining = True
        if self._receipts is not None:
            self._receipts.end("the endpoint is being stopped: ask again")
        server.drain(seconds)

    def live(self) -> Mapping[str, Apply]:
        """Return what a reload can change, and how; the certificate's files are read again."""
        return dict.fromkeys(LIVE, self._change)

    def _change(self, config: Config) -> None:
        ingest = require_ingest(config)
        try:
            if self._tls is not None:
                self._tls.reload()
        except TlsError as error:
            raise ConfigError(config.source, [Mistake("ingest.tls_cert", str(error))]) from error
        self._endpoint.change(ingest)
        self._tenants.rate = ingest.rate_per_tenant
