"""The same endpoint on Trio: Hypercorn's Trio worker, and aiokafka across trio-asyncio's bridge.

``python -m bench.subjects.peers.trio_records PORT BOOTSTRAP TOPIC``.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
import trio
import trio_asyncio
from aiokafka import AIOKafkaProducer
from hypercorn.config import Config  # type: ignore[import-not-found, unused-ignore]
from hypercorn.trio import serve  # type: ignore[import-not-found, unused-ignore]

from bench.subjects.peers.starlette_records import NDJSON, written


async def main(port: int, bootstrap: str, topic: str) -> None:
    """Serve until killed."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    async with trio_asyncio.open_loop() as loop:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, acks="all"
        )
        await trio_asyncio.aio_as_trio(producer.start)()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await _live(receive, send)
                return
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            many = (b"content-type", NDJSON.encode()) in scope["headers"]
            told = await loop.run_aio_coroutine(written(producer, topic, body, many=many))
            answer = orjson.dumps(told)
            headers = [(b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": 202, "headers": headers})
            await send({"type": "http.response.body", "body": answer})

        await serve(app, config)


async def _live(receive: Any, send: Any) -> None:
    """Say that there is nothing to start or to end."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2], sys.argv[3])
