"""FastStream: a batch subscriber that acknowledges after the handler (``AckPolicy.ACK``).

Bodies are passed on as bytes and no types are applied, so that FastStream's own decoding and validation
cost nothing; the handler does what the hand-written loops do.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import (  # type: ignore[import-not-found, unused-ignore]
    AckPolicy,
    FastStream,
)
from faststream.kafka import KafkaBroker  # type: ignore[import-not-found, unused-ignore]

from bench.subjects.peers.upsert import Writer, arguments, columns, folded

BATCH = 4000


async def main() -> None:
    """Run until stopped."""
    options = arguments(__doc__ or "").parse_args()
    writer = await Writer.open(options.dsn)
    broker = KafkaBroker(options.bootstrap, apply_types=False, logger=None)

    async def undecoded(message: Any) -> Any:
        return message.body

    async def handle(values: list[bytes]) -> None:
        await writer.write(columns(folded(values)))

    broker.subscriber(
        options.topic,
        group_id=options.group,
        batch=True,
        max_records=BATCH,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        decoder=undecoded,
    )(handle)
    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    asyncio.run(main())
