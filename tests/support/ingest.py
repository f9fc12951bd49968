"""The ingest application without servers: requests in memory, and a writer that acknowledges as told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import trio

from pipeline.config.ingest import Placement
from pipeline.config.model import IngestConfig
from pipeline.ingest.application import IngestApplication
from pipeline.ingest.cors import Cors
from pipeline.ingest.endpoint import RecordsEndpoint
from pipeline.ingest.health import IngestHealth
from pipeline.ingest.openapi import document
from pipeline.ingest.outcomes import Outcomes
from pipeline.ingest.rates import TenantRates
from pipeline.ingest.records import Preparation
from pipeline.ingest.validation import Check
from pipeline.kafka.batch_builder import Message
from pipeline.kafka.delivery import Delivery, NotDelivered, Outcome
from pipeline.observe.metrics import Metrics
from pipeline.records.path import Path
from tests.support.replies import Reply

TOPIC_ID = UUID(int=7)
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}


class StubWriter:
    """Takes note of what it is handed, and gives each record the outcome that a test wants."""

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self.topic_id = TOPIC_ID
        self.pending_records = 0
        self.pending_bytes = 0
        self.trouble: NotDelivered | None = None
        self.absent: set[int] = set()
        self.log: dict[int, list[Message]] = {number: [] for number in range(partitions)}
        self.outcome: Callable[[int, Message], Outcome] = lambda offset, _: offset
        self.held: list[Delivery] | None = None
        """What waits for `release`, if it is a list."""

    def accepts(self, partition: int) -> bool:
        return partition not in self.absent

    def send(self, partition: int, messages: Sequence[Message]) -> Delivery:
        delivery = Delivery(partition, messages, 0, 0.0)
        self.pending_records += len(messages)
        if self.held is None:
            self.release(delivery)
        else:
            self.held.append(delivery)
        return delivery

    def release(self, delivery: Delivery) -> None:
        """Give a delivery its outcomes."""
        outcomes = []
        for message in delivery.messages:
            outcomes.append(self.outcome(len(self.log[delivery.partition]), message))
            self.log[delivery.partition].append(message)
        self.pending_records -= len(delivery.messages)
        delivery.resolve(outcomes)

    @property
    def messages(self) -> list[Message]:
        return [message for log in self.log.values() for message in log]


class Client:
    """Sends requests to an application, in memory."""

    def __init__(self, app: IngestApplication) -> None:
        self.app = app
        self.gone = trio.Event()
        """Set when the client goes."""

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request; ``body`` in pieces if it is a sequence of them."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            if not pieces:
                await self.gone.wait()
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(dict(message))

        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}
        await self.app(scope, receive, send)
        start, end = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], found, end["body"])

    async def post(
        self, body: bytes | Sequence[bytes], headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Post records, as JSON if nothing else is said."""
        return await self.request("POST", "/v1/records", body, {**JSON, **(headers or {})})


def make_client(
    writer: StubWriter,
    check: Check | None = None,
    required: Sequence[str] = ("app",),
    idempotency: str | None = None,
    metrics: Metrics | None = None,
    outcomes: Outcomes | None = None,
    **options: Any,
) -> Client:
    """Make an application and its client; ``options`` are those of [ingest]."""
    config = IngestConfig(("127.0.0.1", 0), **options)
    paths = tuple(map(Path.parse, required))
    place = Placement("t", paths[0], paths, Path.parse(idempotency) if idempotency else None)
    rate = config.rate_per_tenant
    rates = None if rate is None else TenantRates(trio.current_time, lambda _: rate)
    endpoint = RecordsEndpoint(config, writer, Preparation(place, check, rates), outcomes)
    return Client(
        IngestApplication(
            endpoint,
            metrics or Metrics(),
            IngestHealth(writer),
            document(None, with_tokens=bool(config.tokens), with_receipts=outcomes is not None),
            Cors(config.cors_origins),
        )
    )
