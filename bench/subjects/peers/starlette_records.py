"""An endpoint like `pipeline ingest`'s, as a Python user would write it: Starlette and aiokafka.

Takes a JSON record, or a line per record, with ``id`` and ``app_id``; answers 202 when all brokers have
them, with their places. Served by uvicorn: ``python -m bench.subjects.peers.starlette_records PORT
BOOTSTRAP TOPIC``. No schema, limits, rates, tokens, metrics or receipts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvicorn  # type: ignore[import-not-found, unused-ignore]
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

NDJSON = "application/x-ndjson"


def application(bootstrap: str, topic: str) -> Starlette:
    """Make the application."""

    @asynccontextmanager
    async def connected(app: Starlette) -> AsyncIterator[None]:
        app.state.producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, acks="all"
        )
        app.state.topic = topic
        await app.state.producer.start()
        yield
        await app.state.producer.stop()

    return Starlette(routes=[Route("/v1/records", take, methods=["POST"])], lifespan=connected)


async def take(request: Request) -> Response:
    """Write records, and answer when Kafka has acknowledged them."""
    state = request.app.state
    many = request.headers.get("content-type") == NDJSON
    try:
        told = await written(state.producer, state.topic, await request.body(), many=many)
    except (KeyError, TypeError, ValueError) as error:
        return Response(repr(error), 422)
    return Response(orjson.dumps(told), 202, media_type="application/json")


async def written(producer: Any, topic: str, body: bytes, *, many: bool) -> Sequence[Any]:
    """Write the records of a body; return their places."""
    texts = body.splitlines() if many else [body]
    sending = []
    for text in texts:
        record = orjson.loads(text)
        _ = record["id"]
        sending.append(await producer.send(topic, text, key=record["app_id"].encode()))
    return [(done.partition, done.offset) for done in await asyncio.gather(*sending)]


if __name__ == "__main__":
    uvicorn.run(
        application(*sys.argv[2:4]), host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop",
        http="httptools", access_log=False, log_level="warning", timeout_keep_alive=60,
    )  # fmt: skip
